#include "debug/mp_text.hpp"

#include "debug/json_writer.hpp"

namespace tarn::impl::debug {

namespace {

constexpr std::size_t width = 11;
constexpr std::size_t wide = 13;

void write_row(mp_row const& row, base::text_sink& to) noexcept {
    bool const is_slab = row.block_bytes != 0;
    to << "tarn:   ";
    if (is_slab) {
        to.padded(row.block_bytes, width);
        to.padded(row.slots, width);
    } else {
        to << "     larger          -";
    }
    to.padded(row.live, width).padded(row.held, width);
    if (is_slab) {
        to.padded(row.slots - row.live - row.held, width);
    } else {
        to << "          -";
    }
    to.padded(row.peak, width);
    if (is_slab) {
        to.padded(row.chunk_bytes, wide);
    } else {
        to << "            -";
    }
    to.padded(row.allocations, wide);
    to << '\n';
}

void write_row(mp_row const& row, json_writer& to) noexcept {
    bool const is_slab = row.block_bytes != 0;
    to.open('{');
    if (is_slab) {
        to.key("block_bytes");
        to.number(row.block_bytes);
        to.key("total");
        to.number(row.slots);
    }
    to.key("in_use");
    to.number(row.live);
    to.key("held");
    to.number(row.held);
    if (is_slab) {
        to.key("free");
        to.number(row.slots - row.live - row.held);
    }
    to.key("peak");
    to.number(row.peak);
    if (is_slab) {
        to.key("chunks");
        to.number(row.chunks);
        to.key("chunk_bytes");
        to.number(row.chunk_bytes);
    }
    to.key("allocations");
    to.number(row.allocations);
    to.close('}');
}

}  // namespace

void describe_mp_stats(mp_figures const& figures, base::text_sink& to) noexcept {
    check_figures const& all = figures.all;
    to << "tarn: mp statistics: " << all.live_blocks << " live blocks of " << all.live_bytes
       << " bytes, " << all.quarantined_blocks << " freed ones of " << all.quarantined_bytes
       << " bytes held, " << all.allocations << " allocations\n";
    to << "tarn:   block bytes      total     in use       held       free       peak"
          "  chunk bytes  allocations\n";
    for (mp_row const& row : figures.rows) {
        write_row(row, to);
    }
}

void describe_mp_stats_json(mp_figures const& figures, base::text_sink& to) noexcept {
    check_figures const& all = figures.all;
    json_writer json{to};
    json.open('{');
    json.key("tool");
    json.text("tarn");
    json.key("kind");
    json.text("mp-statistics");
    json.key("live_blocks");
    json.number(all.live_blocks);
    json.key("live_bytes");
    json.number(all.live_bytes);
    json.key("held_blocks");
    json.number(all.quarantined_blocks);
    json.key("held_bytes");
    json.number(all.quarantined_bytes);
    json.key("allocations");
    json.number(all.allocations);
    json.key("slabs");
    json.open('[');
    for (std::size_t i = 0; i < mp_slab_count; ++i) {
        write_row(figures.rows[i], json);
    }
    json.close(']');
    json.key("larger");
    write_row(figures.rows[mp_slab_count], json);
    json.close('}');
    to << '\n';
}

}  // namespace tarn::impl::debug
