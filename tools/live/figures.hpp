// live/figures.hpp - the figures of a process, read from a copy of its live statistics file.
//
// Threads    pure; any thread
// Always     any bytes may be given: what makes no sense is named, never believed. All that is
//            read lies within the file, whatever its counts say.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <tarn/live.h>

namespace tarn::live {

/// Why a process shows no figures.
enum class reason : std::uint8_t {
    no_process,
    ended,          // meanwhile, or already and nobody has waited for it
    not_permitted,  // another user's
    not_on_tarn,    // or on Tarn without the file
    unusable,       // there is a file, but not one to believe
    not_checking,   // asked to check its blocks, but not in mode debug
    no_answer       // none was ever taken, or they change all the time
};

/// A message for the user that names the process.
class unavailable : public std::runtime_error {
public:
    unavailable(reason why, std::string const& message) : std::runtime_error{message}, why_(why) {}

    [[nodiscard]] reason why() const { return why_; }

private:
    reason why_;
};

struct figures {
    tarn_stats stats{};  // without the arrays, which follow
    std::vector<tarn_class_stats> classes;
    std::vector<tarn_thread_stats> threads;
    std::uint64_t taken_ms = 0;  // CLOCK_MONOTONIC
    std::uint32_t answered = 0;
    bool is_answer = false;  // taken after we asked
};

/// What tells from the file's first fields that it is not one to read: empty when it is.
/// `process_id`: of the process, as that itself sees it.
std::string defect_of(tarn_live const& start, std::uint32_t process_id);

/// Reads a consistent copy of a file whose first fields are fine. A library that is newer or older
/// than this program may have a longer or shorter tarn_stats, but not one shorter than the first.
/// Throws unavailable (`unusable`).
figures parse(std::span<std::byte const> copy);

/// Whether `answered` has reached `request`; both count on from 2^32 - 1 with 0.
inline bool has_reached(std::uint32_t answered, std::uint32_t request) {
    return answered - request < std::uint32_t{1} << 31;
}

}  // namespace tarn::live
