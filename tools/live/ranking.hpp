// live/ranking.hpp - the table of processes: rows, rates between two looks, order.
//
// Threads    pure; any thread
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "live/survey.hpp"

namespace tarn::live {

enum class sort_key : std::uint8_t { live, mapped, resident, held, rate };
inline constexpr std::array<std::string_view, 5> sort_names{"live", "mapped", "resident", "held",
                                                            "rate"};

std::string_view name_of(sort_key key);

std::optional<sort_key> sort_key_called(std::string_view name);

/// The one after `key`; after the last comes the first.
sort_key next_of(sort_key key);

struct ranked_process {
    std::uint64_t number = 0;
    std::string name;
    std::uint64_t live_bytes = 0;
    std::uint64_t mapped_bytes = 0;
    std::uint64_t resident_bytes = 0;
    std::uint64_t held_bytes = 0;  // free, and not given back to the system
    std::uint64_t threads = 0;
    std::optional<std::uint64_t> rate;    // allocations per second; needs two looks
    std::optional<std::uint64_t> age_ms;  // of figures that nobody refreshed
};

/// Remembers the last look at each process, for rates.
class history {
public:
    /// Rows of `found`, in its order. Figures that are as old as at the last look keep their rate;
    /// counters that went back are those of another process with the same number.
    std::vector<ranked_process> rank(std::vector<process_figures> const& found,
                                     std::uint64_t now_ms);

private:
    struct sample {
        std::uint64_t taken_ms = 0;
        std::uint64_t allocations = 0;
        std::optional<std::uint64_t> rate;
    };

    std::map<std::uint64_t, sample> last_;
};

/// The largest first, equal ones by number.
void sort_by(sort_key key, std::vector<ranked_process>& rows);

/// Columns for `tarn stat`, or with held and rate for `tarn top`.
enum class columns : std::uint8_t { few, all };

/// A head and a line for each process.
std::vector<std::string> format_processes(std::vector<ranked_process> const& rows, columns which);

}  // namespace tarn::live
