#include "shm/text.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "cli/report.hpp"
#include "live/text.hpp"

namespace tarn::shared {

namespace {

using live::table_row;

void append_table(lines& to, std::vector<table_row> const& rows, std::size_t left_column) {
    for (std::string const& line : live::format_table(rows, left_column)) {
        to.push_back(line);
    }
}

/// What a client calls itself is its own affair: nothing that a terminal would obey.
std::string format_label(char const* label) {
    std::string text{label};
    std::replace_if(
        text.begin(), text.end(), [](char one) { return one < ' ' || one > '~'; }, '?');
    return text;
}

std::string format_process(tarn_shm_client_info const& about) {
    return about.process_id == 0 ? "?" : std::to_string(about.process_id);
}

table_row row_of(observed_client const& client) {
    tarn_shm_client_info const& about = client.about;
    return {std::to_string(client.number),
            format_label(about.label),
            format_process(about),
            std::to_string(about.user_id),
            name_of_state(about.state),
            cli::format_count(about.held),
            cli::format_bytes(about.held_bytes),
            cli::format_count(about.allocations)};
}

}  // namespace

char const* name_of_state(int state) { return state == 0 ? "free" : state == 1 ? "alive" : "dead"; }

std::vector<std::uint32_t> numbers_in(std::uint64_t holders) {
    std::vector<std::uint32_t> numbers;
    for (; holders != 0; holders &= holders - 1) {
        numbers.push_back(static_cast<std::uint32_t>(std::countr_zero(holders)));
    }
    return numbers;
}

lines format_list(std::vector<listed_segment> const& all) {
    std::vector<table_row> rows{
        {"NAME", "ID", "CLIENTS", "POOLS", "CHUNKS", "FREE", "READY", "MOST", "CONTROL"}};
    for (listed_segment const& each : all) {
        std::uint64_t chunks = 0;
        std::uint64_t free = 0;
        for (tarn_shm_pool_info const& pool : each.pools) {
            chunks += pool.ready;
            free += pool.free;
        }
        rows.push_back(
            {each.name, fmt::format("{:04x}", each.about.id), std::to_string(each.about.clients),
             std::to_string(each.pools.size()), cli::format_count(chunks), cli::format_count(free),
             cli::format_bytes(each.about.ready_bytes), cli::format_bytes(each.about.payload_bytes),
             cli::format_bytes(each.about.control_bytes)});
    }
    lines text;
    append_table(text, rows, 0);
    return text;
}

lines format_segment(tarn_shm_info const& about, std::vector<tarn_shm_pool_info> const& pools,
                     std::vector<observed_client> clients) {
    lines text{fmt::format("segment {} (id {:04x}): {} of {} clients, {} recovered", about.name,
                           about.id, about.clients, TARN_SHM_CLIENTS_MAX, about.recoveries),
               ""};
    std::vector<table_row> rows{
        {"POOL", "CHUNK", "ALIGN", "READY", "MOST", "FREE", "HELD", "MEMORY"}};
    for (std::size_t i = 0; i < pools.size(); ++i) {
        tarn_shm_pool_info const& pool = pools[i];
        rows.push_back({std::to_string(i), cli::format_bytes(pool.chunk_bytes),
                        std::to_string(pool.alignment), cli::format_count(pool.ready),
                        cli::format_count(pool.count_most), cli::format_count(pool.free),
                        cli::format_count(pool.ready - std::min(pool.free, pool.ready)),
                        cli::format_bytes(pool.ready * pool.stride_bytes)});
    }
    append_table(text, rows, 0);
    text.emplace_back();
    std::sort(clients.begin(), clients.end(), [](auto const& left, auto const& right) {
        return left.about.held_bytes != right.about.held_bytes
                   ? left.about.held_bytes > right.about.held_bytes
                   : left.number < right.number;
    });
    rows = {{"CLIENT", "LABEL", "PROCESS", "USER", "STATE", "HELD", "MEMORY", "SHARED"}};
    for (observed_client const& each : clients) {
        rows.push_back(row_of(each));
    }
    append_table(text, rows, 1);
    return text;
}

lines format_chunk(std::uint32_t pool, std::uint32_t number, tarn_shm_chunk_info const& chunk,
                   std::vector<observed_client> const& clients) {
    lines text{fmt::format("chunk {}/{}: {}, generation {}", pool, number,
                           chunk.holders == 0 ? "free" : "held", chunk.generation)};
    if (chunk.holders == 0) {
        return text;
    }
    text.push_back(fmt::format("  {} bytes, number {} of client {}", chunk.payload_bytes,
                               chunk.sequence, chunk.origin));
    std::vector<table_row> rows{
        {"CLIENT", "LABEL", "PROCESS", "USER", "STATE", "HELD", "MEMORY", "SHARED"}};
    for (std::uint32_t const holder : numbers_in(chunk.holders)) {
        auto const found = std::find_if(clients.begin(), clients.end(), [&](auto const& client) {
            return client.number == holder;
        });
        rows.push_back(found != clients.end()
                           ? row_of(*found)
                           : table_row{std::to_string(holder), "", "", "", "gone", "", "", ""});
    }
    append_table(text, rows, 1);
    return text;
}

}  // namespace tarn::shared
