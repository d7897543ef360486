// explorer/explorer.hpp - visits all interleavings of a few threads of lock-free code.
//
// Role       A scenario is made anew for every run; its threads are fibers of one thread, which
//            stop before each operation on an atomic of explorer/explored_atomics.hpp. What they do
//            in between is one step. explore() goes through all orders of the steps, depth first.
// Finds      whatever require() in a thread or in finish() denies; a data race on explored_data
//            (no happens-before by acquire and release); an access to memory that was buried; a
//            deadlock; a run that does not end.
// Memory     Values are sequentially consistent; a missing acquire or release shows as a race of
//            the data it should order. With store_buffers, each thread's stores wait in a queue
//            until they drain, at any time, in order (TSO, as on x86); a read-modify-write or a
//            seq_cst store first waits for its queue to be empty. Not modelled: loads that are
//            overtaken (ARM), and compare_exchange_weak that fails for no reason.
// Pruning    Two runs that differ only in the order of independent steps (other places, or reads
//            alone) are one: sleep sets (P. Godefroid, "Partial-Order Methods for the Verification
//            of Concurrent Systems", 1996). So plain data that threads share must be explored_data,
//            or be ordered by atomics. A bound on preemptions switches sleep sets off.
// Schedule   A string, one letter a step: a digit is a step of that thread, a letter from `a` on
//            the oldest buffered store of thread 0, 1... reaching memory. replay() also takes `1*`:
//            thread 1 until it ends. What is left out at the end: the current thread goes on, then
//            the lowest.
// Always     A run may be left in its middle: threads own nothing that the scenario does not.
//            The same schedule gives the same run: nothing may depend on time or on addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>

namespace tarn::test {

inline constexpr unsigned explored_threads_most = 6;

class scenario {
public:
    scenario() = default;
    scenario(scenario const&) = delete;
    scenario& operator=(scenario const&) = delete;
    virtual ~scenario() = default;

    [[nodiscard]] virtual unsigned threads() const = 0;
    virtual void run(unsigned thread) = 0;

    /// After all threads have ended, and all stores have drained.
    virtual void finish() {}
};

using scenario_maker = std::function<std::unique_ptr<scenario>()>;

struct exploring {
    bool store_buffers = false;
    unsigned preemptions_most = std::numeric_limits<unsigned>::max();
    std::uint64_t runs_most = 2'000'000;
    std::uint32_t steps_most = 2'000;  // of a run
};

struct exploration {
    std::uint64_t runs = 0;   // seen to their end
    std::uint64_t cut = 0;    // left, since what was to come had been seen
    std::uint64_t steps = 0;  // of all runs
    bool exhausted = false;   // every interleaving was seen
    std::string failure;      // empty: none
    std::string schedule;     // of the run that failed, or that was replayed
    std::string trace;        // of the same, a line for each step

    [[nodiscard]] bool passed() const { return exhausted && failure.empty(); }

    friend std::ostream& operator<<(std::ostream& to, exploration const& seen) {
        to << seen.runs << " runs, " << seen.cut << " cut, " << seen.steps << " steps"
           << (seen.exhausted ? "" : ", not exhausted");
        if (!seen.failure.empty()) {
            to << "\n" << seen.failure << "\nreplay: " << seen.schedule << "\n" << seen.trace;
        }
        return to;
    }
};

[[nodiscard]] exploration explore(scenario_maker const& make, exploring const& how = {});

/// One run, with its trace.
[[nodiscard]] exploration replay(scenario_maker const& make, std::string_view schedule,
                                 exploring const& how = {});

/// In a scenario: fails the run unless `holds`. Does not return then, where a thread runs.
void require(bool holds, char const* text);

/// In a scenario: from here on, an access to an explored object in these bytes fails the run. A
/// step.
void bury(void const* start, std::size_t bytes);

/// In a scenario: the bytes are memory again.
void unbury(void const* start, std::size_t bytes);

/// The thread that runs, from 0; explored_threads_most outside of threads.
[[nodiscard]] unsigned explored_thread() noexcept;

}  // namespace tarn::test
