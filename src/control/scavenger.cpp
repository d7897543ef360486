#include "control/scavenger.hpp"

#include <algorithm>
#include <atomic>

#include "platform/os.hpp"
#include "platform/threads.hpp"
#include "heap/process.hpp"
#include "control/live_stats.hpp"
#include "control/options.hpp"

namespace tarn::impl::control {

using heap::process;
using platform::os;

namespace {

constinit std::atomic<std::uint32_t> phase{0};  // a scavenger_phase
constinit std::atomic<std::uint32_t> bell{0};   // rung when the program's last thread leaves

constexpr std::uint32_t delay_least_ms = 10;
constexpr int futile_most = 4;  // passes in a row that give nothing back: the system refuses to

constexpr auto word(scavenger_phase of) noexcept { return static_cast<std::uint32_t>(of); }

/// Whether the thread is to be there for a program with so many threads, as far as they allocate.
/// With none left it may not be, or the process would never end.
bool is_wanted() noexcept {
    std::uint32_t const threads = process.active_heaps.load(std::memory_order_relaxed);
    switch (current_options().scavenger) {
        case scavenger_choice::on:
            return threads > 0;
        case scavenger_choice::off:
            return false;
        case scavenger_choice::automatic:
            break;
    }
    return threads > 1;
}

bool try_become(scavenger_phase from, scavenger_phase to) noexcept {
    std::uint32_t seen = word(from);
    return phase.compare_exchange_strong(seen, word(to), std::memory_order_seq_cst);
}

/// Nothing is left to do. Sleeps until somebody has freed again. False: the thread is to end.
bool sleep_until_needed() noexcept {
    bool const stays = is_wanted();
    phase.store(word(stays ? scavenger_phase::asleep : scavenger_phase::absent),
                std::memory_order_relaxed);
    // Pairs with the fence in note_free_memory(): whoever frees after the look below finds the
    // phase that was just stored, or what it freed is found here.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!stays) {
        return heap::has_memory_to_scavenge() && is_wanted() &&
               try_become(scavenger_phase::absent, scavenger_phase::awake);
    }
    if (heap::has_memory_to_scavenge() &&
        try_become(scavenger_phase::asleep, scavenger_phase::awake)) {
        return true;
    }
    show_from_scavenger(scavenger_moment::sleeps);
    wait_and_show(phase, word(scavenger_phase::asleep));
    return true;
}

/// As that, where the system takes nothing: what is there to give back is no reason to wake.
void sleep_until_told() noexcept {
    phase.store(word(scavenger_phase::asleep), std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // as above: the last thread may be gone
    if (process.active_heaps.load(std::memory_order_relaxed) == 0 &&
        try_become(scavenger_phase::asleep, scavenger_phase::awake)) {
        return;
    }
    show_from_scavenger(scavenger_moment::sleeps);
    wait_and_show(phase, word(scavenger_phase::asleep));
}

void run() noexcept {
    int futile = 0;
    for (;;) {
        std::uint32_t const heard = bell.load(std::memory_order_acquire);
        if (process.active_heaps.load(std::memory_order_relaxed) == 0) {
            phase.store(word(scavenger_phase::absent), std::memory_order_relaxed);
            return;
        }
        wait_and_show(bell, heard, std::max(process.options.space.purge_delay_ms, delay_least_ms));
        futile = heap::scavenge() == 0 ? futile + 1 : 0;
        show_from_scavenger(scavenger_moment::passed);
        if (!heap::has_memory_to_scavenge()) {
            futile = 0;
            if (!sleep_until_needed()) {
                return;
            }
        } else if (futile >= futile_most) {
            futile = 0;
            sleep_until_told();
        }
    }
}

constexpr platform::background_thread thread{.run = &run, .name = "tarn-scavenger"};

}  // namespace

bool note_free_memory(may_start start) noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // see sleep_until_needed()
    switch (scavenger()) {
        case scavenger_phase::awake:
        case scavenger_phase::refused:
            return true;
        case scavenger_phase::asleep:
            if (try_become(scavenger_phase::asleep, scavenger_phase::awake)) {
                os::wake_one(phase);
            }
            return true;
        case scavenger_phase::absent:
            break;
    }
    if (!is_wanted()) {
        return true;
    }
    if (start == may_start::no) {
        return false;
    }
    if (try_become(scavenger_phase::absent, scavenger_phase::awake) &&
        !platform::start_background_thread(thread)) {
        phase.store(word(scavenger_phase::refused), std::memory_order_relaxed);
    }
    return true;
}

void note_thread_left() noexcept {
    static_cast<void>(note_free_memory(may_start::no));
    if (process.active_heaps.load(std::memory_order_relaxed) == 0) {
        bell.fetch_add(1, std::memory_order_release);
        os::wake_one(bell);
    }
}

void forget_scavenger() noexcept {
    phase.store(word(scavenger_phase::absent), std::memory_order_relaxed);
}

scavenger_phase scavenger() noexcept {
    return static_cast<scavenger_phase>(phase.load(std::memory_order_relaxed));
}

}  // namespace tarn::impl::control
