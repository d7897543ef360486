// shm/text.hpp - shared segments as lines of text.
//
// Threads    pure; any thread
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "shm/observed.hpp"

namespace tarn::shared {

/// Ended by a newline each.
using lines = std::vector<std::string>;

struct listed_segment {
    std::string name;
    tarn_shm_info about;
    std::vector<tarn_shm_pool_info> pools;
};

/// A table with a row for each segment.
lines format_list(std::vector<listed_segment> const& all);

/// The pools of a segment, and its clients, those that hold most first.
lines format_segment(tarn_shm_info const& about, std::vector<tarn_shm_pool_info> const& pools,
                     std::vector<observed_client> clients);

/// Who holds a chunk, and what its header says.
lines format_chunk(std::uint32_t pool, std::uint32_t number, tarn_shm_chunk_info const& chunk,
                   std::vector<observed_client> const& clients);

/// The numbers of the clients in a mask.
std::vector<std::uint32_t> numbers_in(std::uint64_t holders);

char const* name_of_state(int state);

}  // namespace tarn::shared
