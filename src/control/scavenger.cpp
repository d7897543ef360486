#include "control/scavenger.hpp"

#include <algorithm>
#include <atomic>

#include "platform/os.hpp"
#include "platform/threads.hpp"
#include "heap/process.hpp"
#include "control/options.hpp"

namespace tarn::impl::control {

using heap::process;
using platform::os;

namespace {

constinit std::atomic<std::uint32_t> phase{0};  // a scavenger_phase

constexpr std::uint32_t delay_least_ms = 10;  // also where the system refuses to take it

constexpr auto word(scavenger_phase of) noexcept { return static_cast<std::uint32_t>(of); }

bool is_wanted() noexcept {
    switch (current_options().scavenger) {
        case scavenger_choice::on:
            return true;
        case scavenger_choice::off:
            return false;
        case scavenger_choice::automatic:
            break;
    }
    return process.active_heaps.load(std::memory_order_relaxed) > 1;
}

/// Sleeps until somebody has freed again. False: the thread is to end, since the program has only
/// one of its own left.
bool sleep_until_needed() noexcept {
    scavenger_phase const next = is_wanted() ? scavenger_phase::asleep : scavenger_phase::absent;
    // seq_cst with the exchange in note_free_memory(): whoever frees after the look below finds
    // this value, or what it freed is found.
    phase.store(word(next), std::memory_order_seq_cst);
    if (next == scavenger_phase::absent) {
        return false;
    }
    while (!heap::has_memory_to_scavenge() &&
           phase.load(std::memory_order_acquire) == word(scavenger_phase::asleep)) {
        os::wait(phase, word(scavenger_phase::asleep));
    }
    phase.store(word(scavenger_phase::awake), std::memory_order_relaxed);
    return true;
}

void run() noexcept {
    constinit static std::atomic<std::uint32_t> never{0};
    for (;;) {
        os::wait_for(never, 0, std::max(process.options.space.purge_delay_ms, delay_least_ms));
        static_cast<void>(heap::scavenge());
        if (!heap::has_memory_to_scavenge() && !sleep_until_needed()) {
            return;
        }
    }
}

void start() noexcept {
    if (!platform::start_background_thread(&run, "tarn-scavenger")) {
        phase.store(word(scavenger_phase::refused), std::memory_order_relaxed);
    }
}

}  // namespace

void note_free_memory() noexcept {
    std::uint32_t seen = phase.load(std::memory_order_relaxed);
    if (seen == word(scavenger_phase::awake) || seen == word(scavenger_phase::refused) ||
        (seen == word(scavenger_phase::absent) && !is_wanted())) {
        return;
    }
    // One wins; its successors see `awake`.
    if (phase.compare_exchange_strong(seen, word(scavenger_phase::awake),
                                      std::memory_order_seq_cst)) {
        if (seen == word(scavenger_phase::absent)) {
            start();
        } else {
            os::wake_one(phase);
        }
    }
}

void forget_scavenger() noexcept {
    phase.store(word(scavenger_phase::absent), std::memory_order_relaxed);
}

scavenger_phase scavenger() noexcept {
    return static_cast<scavenger_phase>(phase.load(std::memory_order_relaxed));
}

}  // namespace tarn::impl::control
