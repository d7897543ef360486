#include "live/top_view.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace tarn::live {

namespace {

constexpr char escape = '\x1b';

constexpr std::string_view home = "\x1b[H";
constexpr std::string_view clear_line = "\x1b[K";
constexpr std::string_view clear_below = "\x1b[J";

}  // namespace

key_effect apply_keys(std::string_view typed, top_view& view) {
    key_effect effect = key_effect::none;
    for (char const key : typed) {
        switch (key) {
            case escape:
                return effect;
            case 'q':
                return key_effect::quit;
            case 's':
                view.sort = next_of(view.sort);
                effect = key_effect::redraw;
                break;
            case 'p':
                view.is_paused = !view.is_paused;
                effect = key_effect::redraw;
                break;
            default:
                break;
        }
    }
    return effect;
}

std::vector<std::string> compose_screen(std::vector<ranked_process> rows, top_view const& view,
                                        std::string_view interval, window_size window) {
    sort_by(view.sort, rows);
    std::size_t const count = rows.size();
    std::vector<std::string> lines{fmt::format(
        "tarn top: {} {} on Tarn, by {}, {}", count, count == 1 ? "process" : "processes",
        name_of(view.sort), view.is_paused ? "paused" : fmt::format("every {}", interval))};
    constexpr std::size_t other_lines = 3;  // the first, the head, the keys
    std::size_t const room = window.rows - std::min(window.rows, other_lines);
    // All rows, also those that do not fit: columns keep their widths as processes move.
    std::vector<std::string> const table = format_processes(rows, columns::all);
    std::size_t const shown = std::min(count, room);
    lines.insert(lines.end(), table.begin(),
                 table.begin() + static_cast<std::ptrdiff_t>(shown + 1));
    lines.push_back(fmt::format("q quit  s sort  p pause{}",
                                shown < count ? fmt::format("  ({} more)", count - shown) : ""));
    lines.resize(std::min(lines.size(), window.rows));
    for (std::string& line : lines) {
        line.resize(std::min(line.size(), window.columns));
    }
    return lines;
}

std::string draw(std::vector<std::string> const& lines) {
    std::string text{home};
    for (std::size_t i = 0; i < lines.size(); ++i) {
        text += i == 0 ? "" : "\r\n";  // none at the end, which would scroll a full screen
        // Cleared first: at the right edge, clearing would take the last letter.
        text += clear_line;
        text += lines[i];
    }
    text += clear_below;
    return text;
}

}  // namespace tarn::live
