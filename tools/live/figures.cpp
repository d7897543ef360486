#include "live/figures.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

namespace tarn::live {

namespace {

constexpr std::size_t stats_at = offsetof(tarn_live, stats);
constexpr std::size_t first_stats_bytes =
    offsetof(tarn_stats, thread_count) + sizeof(tarn_stats::thread_count);
constexpr std::size_t classes_bytes = TARN_CLASSES_MAX * sizeof(tarn_class_stats);
static_assert(sizeof(tarn_live) <= TARN_LIVE_BYTES);

[[noreturn]] void refuse(std::string const& message) {
    throw unavailable{reason::unusable, message};
}

template <class Row>
std::vector<Row> rows_at(std::span<std::byte const> copy, std::size_t at, std::uint64_t count) {
    std::vector<Row> rows(count);
    if (count != 0) {
        std::memcpy(rows.data(), copy.subspan(at, count * sizeof(Row)).data(), count * sizeof(Row));
    }
    return rows;
}

}  // namespace

std::string defect_of(tarn_live const& start, std::uint32_t process_id) {
    if (start.magic == 0) {
        return "its statistics file is empty as yet; ask again";
    }
    if (start.magic != TARN_LIVE_MAGIC) {
        return fmt::format("its statistics file begins with {:#010x}, not with Tarn's {:#010x}",
                           start.magic, TARN_LIVE_MAGIC);
    }
    if (start.version != TARN_STATS_VERSION) {
        return fmt::format("its statistics have version {}; this tarn reads version {}",
                           start.version, TARN_STATS_VERSION);
    }
    if (start.process_id != process_id) {
        return fmt::format(
            "its statistics file is that of process {}, from before a fork; it has none of its own "
            "yet",
            start.process_id);
    }
    return {};
}

figures parse(std::span<std::byte const> copy) {
    if (copy.size() < sizeof(tarn_live)) {
        refuse(fmt::format("its statistics file has {} bytes, which is too short", copy.size()));
    }
    figures found;
    std::memcpy(&found.answered, copy.subspan(offsetof(tarn_live, answered)).data(),
                sizeof found.answered);
    std::memcpy(&found.taken_ms, copy.subspan(offsetof(tarn_live, taken_ms)).data(),
                sizeof found.taken_ms);
    tarn_stats& stats = found.stats;
    std::memcpy(&stats, copy.subspan(stats_at).data(), first_stats_bytes);
    std::size_t const their_bytes = stats.size;
    std::size_t const room = copy.size() - stats_at - classes_bytes;
    if (their_bytes < first_stats_bytes || their_bytes > room ||
        their_bytes % alignof(tarn_stats) != 0) {
        refuse(
            fmt::format("its statistics file makes no sense: {} bytes of statistics", their_bytes));
    }
    std::memcpy(&stats, copy.subspan(stats_at).data(), std::min(their_bytes, sizeof stats));
    std::size_t const classes_at = stats_at + their_bytes;
    std::size_t const threads_at = classes_at + classes_bytes;
    std::size_t const thread_room = (copy.size() - threads_at) / sizeof(tarn_thread_stats);
    if (stats.class_count > TARN_CLASSES_MAX || stats.thread_count > thread_room) {
        refuse(fmt::format("its statistics file makes no sense: {} size classes, {} threads",
                           stats.class_count, stats.thread_count));
    }
    found.classes = rows_at<tarn_class_stats>(copy, classes_at, stats.class_count);
    found.threads = rows_at<tarn_thread_stats>(copy, threads_at, stats.thread_count);
    stats.size = sizeof stats;
    stats.by_class = nullptr;
    stats.by_thread = nullptr;
    stats.by_owner = nullptr;
    stats.owner_count = 0;
    return found;
}

}  // namespace tarn::live
