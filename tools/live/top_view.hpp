// live/top_view.hpp - what `tarn top` shows and how keys change it.
//
// Threads    pure; any thread
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "live/ranking.hpp"

namespace tarn::live {

struct top_view {
    sort_key sort = sort_key::live;
    bool is_paused = false;
};

enum class key_effect : std::uint8_t { none, redraw, quit };

/// What a read from the terminal means: one key, several typed quickly, or a sequence that begins
/// with escape (an arrow), which means nothing. Nothing after q counts.
key_effect apply_keys(std::string_view typed, top_view& view);

struct window_size {
    std::size_t rows = 24;
    std::size_t columns = 80;
};

/// The whole screen, top down: a line about the table, its head, as many processes as fit in
/// between, and the keys. Never more lines than rows, nor longer than the columns.
std::vector<std::string> compose_screen(std::vector<ranked_process> rows, top_view const& view,
                                        std::string_view interval, window_size window);

/// What to write to a terminal so that it shows `lines` and nothing else.
std::string draw(std::vector<std::string> const& lines);

}  // namespace tarn::live
