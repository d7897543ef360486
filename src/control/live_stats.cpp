#include "control/live_stats.hpp"

#include <algorithm>
#include <atomic>

#include "tarn/live.h"

#include "platform/os.hpp"
#include "platform/shown_memory.hpp"
#include "platform/threads.hpp"
#include "heap/diversion.hpp"
#include "control/options.hpp"
#include "control/scavenger.hpp"
#include "control/statistics.hpp"

namespace tarn::impl::control {

using platform::os;

namespace {

constexpr std::uint64_t youth_ms = 100;
constexpr std::uint64_t interval_ms = 1000;
constexpr std::uint64_t share_of_time = 1000;

static_assert(sizeof(tarn_live) <= TARN_LIVE_CHECK_AT);
static_assert(TARN_LIVE_CHECK_AT + sizeof(tarn_live_check) <= TARN_LIVE_BYTES);
static_assert(sizing::class_count <= TARN_CLASSES_MAX);

// 0 until start_live_stats(). Stores release and loads acquire, so that whoever finds it set sees
// what that has found out.
constinit std::atomic<std::uint64_t> next_ms{0};
constinit std::atomic<bool> is_busy_showing{false};
constinit std::atomic<bool> is_busy_checking{false};
constinit std::atomic<bool> answers_while_asleep{true};  // the scavenger; false: an old system
constinit std::atomic<tarn_live*> shown_file{nullptr};
constinit platform::shown_memory shown;  // of whoever is busy
constinit bool confined_at_start = false;

std::atomic_ref<std::uint32_t> atomic(std::uint32_t& word) noexcept {
    return std::atomic_ref<std::uint32_t>{word};
}

tarn_live_check& check_of(tarn_live& file) noexcept {
    return *reinterpret_cast<tarn_live_check*>(reinterpret_cast<std::byte*>(&file) +
                                               TARN_LIVE_CHECK_AT);
}

bool is_check_asked(tarn_live& file) noexcept {
    tarn_live_check& check = check_of(file);
    return atomic(check.requests).load(std::memory_order_relaxed) !=
           atomic(check.answered).load(std::memory_order_relaxed);
}

/// Checks all blocks and tells what was found.
void check(tarn_live& file, heap::stand_in const& all, void const* caller) noexcept {
    tarn_live_check& told = check_of(file);
    // acquire: the check comes after whatever the asker has waited for.
    std::uint32_t const asked = atomic(told.requests).load(std::memory_order_acquire);
    std::uint64_t const begin = os::monotonic_ms();
    heap::check_result const found = all.check_all("tarn check", caller);
    heap::stand_in_figures const known = all.figures();
    // As in fill().
    atomic(told.sequence).fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    atomic(told.answered).store(asked, std::memory_order_relaxed);
    told.blocks = found.checked_blocks;
    told.damaged_blocks = found.damaged_blocks;
    told.quarantined_blocks = known.quarantined_blocks;
    told.damaged_blocks_total = known.damaged_blocks;
    told.findings_total = known.findings;
    told.duration_ms = os::monotonic_ms() - begin;
    atomic(told.sequence).fetch_add(1, std::memory_order_release);
    os::wake_all_sharers(told.sequence);
}

bool is_asked() noexcept {
    tarn_live* const file = shown_file.load(std::memory_order_acquire);
    return file != nullptr && atomic(file->requests).load(std::memory_order_relaxed) !=
                                  atomic(file->answered).load(std::memory_order_relaxed);
}

/// The file; null: the system refuses.
tarn_live* open_file() noexcept {
    // A process that was cloned without our hooks has its parent's.
    auto const* const file = static_cast<tarn_live const*>(shown.memory());
    if (file == nullptr || file->process_id != os::process_id() || !shown.is_open()) {
        shown_file.store(nullptr, std::memory_order_relaxed);
        if (!shown.show(TARN_LIVE_NAME, TARN_LIVE_BYTES)) {
            return nullptr;
        }
    }
    auto* const own = static_cast<tarn_live*>(shown.memory());
    own->process_id = os::process_id();
    check_of(*own).is_answered = heap::current_checker() != nullptr ? 1 : 0;
    return own;
}

void fill(tarn_live& file) noexcept {
    // Whoever finds the number odd, or changed, knows that the rest is not to be used: nothing
    // below may be seen before it.
    atomic(file.sequence).fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    file.magic = TARN_LIVE_MAGIC;
    file.version = TARN_STATS_VERSION;
    atomic(file.answered)
        .store(atomic(file.requests).load(std::memory_order_acquire), std::memory_order_relaxed);
    collect_statistics(file.stats, std::span{file.classes}.first<sizing::class_count>(),
                       file.threads);
    add_process_figures(file.stats);
    file.stats.size = sizeof file.stats;
    file.stats.class_count = sizing::class_count;
    file.taken_ms = os::monotonic_ms();
    atomic(file.sequence).fetch_add(1, std::memory_order_release);
    os::wake_all_sharers(file.sequence);
}

/// False: somebody else is at it.
bool show() noexcept {
    // A handler that forks or allocates would find locks taken by the thread it interrupts.
    platform::signals_blocked const no_handlers;
    if (is_busy_showing.exchange(true, std::memory_order_acquire)) {
        return false;
    }
    std::uint64_t const begin = os::monotonic_ms();
    std::uint64_t pause = 60 * interval_ms;  // where the system refuses
    // A filter that the program has set up since may end it for a call that it does not know.
    bool const may_call = os::is_confined() == confined_at_start;
    if (tarn_live* const file = may_call ? open_file() : nullptr) {
        fill(*file);
        shown_file.store(file, std::memory_order_release);
        pause = std::max(interval_ms, (os::monotonic_ms() - begin) * share_of_time);
    }
    next_ms.store(begin + pause, std::memory_order_release);
    is_busy_showing.store(false, std::memory_order_release);
    return true;
}

bool is_due(std::uint64_t now_ms) noexcept {
    std::uint64_t const next = next_ms.load(std::memory_order_acquire);
    return next != 0 && (now_ms >= next || is_asked());
}

}  // namespace

void start_live_stats() noexcept {
    confined_at_start = os::is_confined();
    if (current_options().live_stats == on_off::on) {
        // A checked process is slow anyway, and can be asked to check from its start on.
        std::uint64_t const wait_ms = heap::current_checker() != nullptr ? 0 : youth_ms;
        next_ms.store(os::monotonic_ms() + wait_ms, std::memory_order_release);
    }
}

bool is_check_asked() noexcept {
    // acquire: pairs with the release in show(); the file is mapped.
    tarn_live* const file = shown_file.load(std::memory_order_acquire);
    return file != nullptr && is_check_asked(*file);
}

void answer_check(void const* caller) noexcept {
    heap::stand_in const* const all = heap::current_checker();
    // As in show().
    platform::signals_blocked const no_handlers;
    if (all == nullptr || is_busy_checking.exchange(true, std::memory_order_acquire)) {
        return;
    }
    tarn_live* const file = shown_file.load(std::memory_order_acquire);
    // A process that was cloned without our hooks has its parent's.
    if (file != nullptr && file->process_id == os::process_id() && is_check_asked(*file)) {
        check(*file, *all, caller);
    }
    is_busy_checking.store(false, std::memory_order_release);
}

void tick_live_stats(std::uint64_t now_ms) noexcept {
    if (!is_due(now_ms)) {
        return;
    }
    scavenger_phase const phase = scavenger();
    bool const is_there = phase == scavenger_phase::awake || phase == scavenger_phase::asleep;
    if (!is_there || !answers_while_asleep.load(std::memory_order_relaxed)) {
        static_cast<void>(show());
    }
}

void show_from_scavenger(scavenger_moment moment) noexcept {
    bool const may_show = next_ms.load(std::memory_order_acquire) != 0;
    if (may_show && (moment == scavenger_moment::sleeps || is_due(os::monotonic_ms()))) {
        static_cast<void>(show());
    }
}

void wait_and_show(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                   std::uint32_t most_ms) noexcept {
    std::uint64_t const end = os::monotonic_ms() + most_ms;
    while (word.load(std::memory_order_acquire) == expected) {
        std::uint64_t const now = most_ms == platform::forever_ms ? 0 : os::monotonic_ms();
        if (now >= end) {
            return;
        }
        std::uint32_t const left =
            most_ms == platform::forever_ms ? most_ms : static_cast<std::uint32_t>(end - now);
        tarn_live* const file = shown_file.load(std::memory_order_acquire);
        // acquire: who asks for a check does so before it raises `requests`.
        std::uint32_t const requests =
            file != nullptr ? atomic(file->requests).load(std::memory_order_acquire) : 0;
        if (is_check_asked()) {
            answer_check(nullptr);
        }
        if (file == nullptr) {
            os::wait_for(word, expected, left);
        } else if (requests != atomic(file->answered).load(std::memory_order_relaxed)) {
            if (!show()) {
                os::wait_for(word, expected, 1);
            }
        } else if (!os::wait_for_either(word, expected, file->requests, requests, left)) {
            answers_while_asleep.store(false, std::memory_order_relaxed);
            os::wait_for(word, expected, left);
        }
    }
}

void forget_live_stats() noexcept {
    shown_file.store(nullptr, std::memory_order_relaxed);
    is_busy_showing.store(false, std::memory_order_relaxed);
    is_busy_checking.store(false, std::memory_order_relaxed);
    if (next_ms.load(std::memory_order_acquire) != 0) {
        start_live_stats();
    }
}

}  // namespace tarn::impl::control
