#include "control/introspection.hpp"

#include <algorithm>
#include <string_view>

namespace tarn::impl::control {

namespace {

void put_count_and_size(base::text_sink& to, std::string_view type, std::uint64_t count,
                        std::uint64_t bytes) noexcept {
    to << "<total type=\"" << type << "\" count=\"" << count << "\" size=\"" << bytes << "\"/>\n";
}

void put_size(base::text_sink& to, std::string_view element, std::string_view type,
              std::uint64_t bytes) noexcept {
    to << '<' << element << " type=\"" << type << "\" size=\"" << bytes << "\"/>\n";
}

void put_mapped(base::text_sink& to, std::uint64_t now, std::uint64_t peak,
                std::uint64_t reserved) noexcept {
    put_size(to, "system", "current", now);
    put_size(to, "system", "max", peak);
    put_size(to, "aspace", "total", reserved);
    put_size(to, "aspace", "mprotect", now);
}

}  // namespace

glibc_figures glibc_view(statistics const& of) noexcept {
    glibc_figures result;
    result.huge_blocks = of.huge_blocks;
    result.huge_bytes = of.huge_bytes;
    result.in_use_bytes = of.live_bytes - std::min(of.live_bytes, of.huge_bytes);
    std::uint64_t const apart = of.metadata_bytes + of.huge_bytes;
    // A snapshot of threads that go on may not add up; what is in use is mapped.
    result.arena_bytes =
        std::max(of.mapped_bytes - std::min(of.mapped_bytes, apart), result.in_use_bytes);
    result.arena_peak_bytes = std::max(of.arenas_peak_bytes, result.arena_bytes);
    result.reserved_bytes = of.reserved_bytes;
    result.free_bytes = result.arena_bytes - result.in_use_bytes;
    for (class_statistics const& each : of.classes) {
        result.free_blocks += each.free_blocks;
    }
    result.free_blocks += of.free_runs;
    result.returnable_bytes = of.free_runs_bytes;
    return result;
}

void describe_as_malloc_stats(statistics const& of, base::text_sink& to) noexcept {
    glibc_figures const now = glibc_view(of);
    auto const line = [&to](std::string_view name, std::uint64_t value) {
        to.padded(name, 17) << "= ";
        to.padded(value, 10) << '\n';
    };
    to << "Arena 0:\n";
    line("system bytes", now.arena_bytes);
    line("in use bytes", now.in_use_bytes);
    to << "Total (incl. mmap):\n";
    line("system bytes", now.arena_bytes + now.huge_bytes);
    line("in use bytes", now.in_use_bytes + now.huge_bytes);
    line("max mmap regions", of.huge_blocks_peak);
    line("max mmap bytes", of.huge_peak_bytes);
}

void describe_as_malloc_info(statistics const& of, base::text_sink& to) noexcept {
    glibc_figures const now = glibc_view(of);
    to << "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n";
    std::uint64_t listed_blocks = 0;
    std::uint64_t listed_bytes = 0;
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        std::uint64_t const count = of.classes[size_class].free_blocks;
        if (count != 0) {
            std::uint64_t const bytes = sizing::class_bytes(size_class);
            to << "  <size from=\"" << sizing::class_bytes(size_class - 1) + 1 << "\" to=\""
               << bytes << "\" total=\"" << count * bytes << "\" count=\"" << count << "\"/>\n";
            listed_blocks += count;
            listed_bytes += count * bytes;
        }
    }
    listed_bytes -= std::min(listed_bytes, of.purged_inside_bytes);
    // Of what is free, all that is not in a block: page tails, and whole runs.
    std::uint64_t const rest_blocks = now.free_blocks - std::min(now.free_blocks, listed_blocks);
    std::uint64_t const rest_bytes = now.free_bytes - std::min(now.free_bytes, listed_bytes);
    to << "</sizes>\n";
    put_count_and_size(to, "fast", listed_blocks, listed_bytes);
    put_count_and_size(to, "rest", rest_blocks, rest_bytes);
    put_mapped(to, now.arena_bytes, now.arena_peak_bytes, now.reserved_bytes);
    to << "</heap>\n";
    put_count_and_size(to, "fast", listed_blocks, listed_bytes);
    put_count_and_size(to, "rest", rest_blocks, rest_bytes);
    put_count_and_size(to, "mmap", now.huge_blocks, now.huge_bytes);
    put_mapped(to, now.arena_bytes, now.arena_peak_bytes, now.reserved_bytes);
    to << "</malloc>\n";
}

}  // namespace tarn::impl::control
