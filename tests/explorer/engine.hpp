// explorer/engine.hpp - explorer: what runs scenarios.
//
// Role       the engine behind explorer.hpp and explored_atomics.hpp
// Threads    one; the threads of a scenario are fibers of it
// Always     A fiber that is about to do an operation says which, and goes on when it is chosen.
//            The choice is made on the fiber that stops: it switches to the next one straight away.
//            path_ holds the choices of the run before, up to the last that has another action to
//            try; a run repeats them and then makes new ones.
#pragma once

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "explorer/fiber.hpp"

namespace tarn::test {

enum class access : std::uint8_t { none, read, write };

enum class stage : std::uint8_t { idle, starting, running };

/// What a thread is about to do.
struct operation {
    char const* what = "";
    void const* place = nullptr;
    access kind = access::none;
    bool is_full = false;                   // waits for the thread's store buffer to be empty
    explored_mutex const* mutex = nullptr;  // and for this one to be free
    std::size_t bytes = 1;                  // from `place` on
    explored_word const* word = nullptr;    // compare-exchange: only reads unless this one has
    std::uint64_t expected = 0;             // these bits
};

struct buffered_store {
    explored_word* word;
    std::uint64_t bits;
    vector_clock released;
};

struct explored_fiber {
    fiber context;
    operation next;
    bool has_ended = true;
    vector_clock clock{};
    std::deque<buffered_store> buffer;
};

/// A choice that was made. Actions are bits: a step of thread t is bit t, a drain of its buffer bit
/// explored_threads_most + t.
struct choice {
    unsigned enabled = 0;
    unsigned sleeping = 0;  // seen from an earlier choice already
    unsigned tried = 0;
    unsigned chosen = 0;  // number of the action
    unsigned before = 0;  // the thread that stepped last
    unsigned preemptions = 0;
};

inline bool overlap(operation const& a, operation const& b) {
    auto const* const a_start = static_cast<std::byte const*>(a.place);
    auto const* const b_start = static_cast<std::byte const*>(b.place);
    return a_start < b_start + b.bytes && b_start < a_start + a.bytes;
}

inline void learn(vector_clock& clock, vector_clock const& other) {
    for (unsigned i = 0; i < explored_threads_most; ++i) {
        clock[i] = std::max(clock[i], other[i]);
    }
}

inline constexpr unsigned over = 2 * explored_threads_most;  // no action: the run ends
inline constexpr unsigned nobody = explored_threads_most;

constexpr bool is_drain(unsigned action) { return action >= explored_threads_most; }

constexpr unsigned thread_of(unsigned action) { return action % explored_threads_most; }

inline char letter_of(unsigned action) {
    return static_cast<char>(is_drain(action) ? 'a' + static_cast<int>(thread_of(action))
                                              : '0' + static_cast<int>(action));
}

class explorer {
public:
    explorer(scenario_maker const& make, exploring const& how) : make_{make}, how_{how} {}

    static explorer* current;

    /// The explorer, where a thread of it runs.
    static explorer* active() {
        return current != nullptr && current->thread() != nobody ? current : nullptr;
    }

    exploration explore() {
        do {
            run();
            if (!result_.failure.empty()) {
                result_.schedule = schedule_;
                explorer again{make_, how_};
                result_.trace = again.replay(result_.schedule).trace;
                return result_;
            }
        } while (result_.runs + result_.cut < how_.runs_most && next_path());
        result_.exhausted = path_.empty();
        return result_;
    }

    exploration replay(std::string_view schedule) {
        script_ = schedule;
        is_replay_ = true;
        run();
        result_.schedule = schedule_;
        return result_;
    }

    // What atomics and data ask for.

    [[nodiscard]] unsigned thread() const { return stage_ == stage::idle ? nobody : thread_; }

    [[nodiscard]] bool has_buffers() const { return how_.store_buffers; }

    [[nodiscard]] vector_clock& clock() { return threads_[thread_].clock; }

    /// Comes back when it is this thread's turn to do it.
    void step(operation const& next) {
        explored_fiber& self = threads_[thread_];
        self.next = next;
        if (stage_ == stage::starting) {
            self.context.switch_to(main_);
        } else {
            go_on(self.context);
        }
        check_place(next.place);
        note(next);
        self.next = {};
    }

    void end_step() { ++clock()[thread_]; }

    [[nodiscard]] std::uint64_t own_view(explored_word const& word) const {
        auto const& buffer = threads_[thread_].buffer;
        for (auto each = buffer.rbegin(); each != buffer.rend(); ++each) {
            if (each->word == &word) {
                return each->bits;
            }
        }
        return word.bits_;
    }

    void put_in_buffer(explored_word& word, std::uint64_t bits, vector_clock const& released) {
        threads_[thread_].buffer.push_back({&word, bits, released});
    }

    /// `place` is touched by plain code or by a step.
    void check_place(void const* place) {
        auto const* const at = static_cast<std::byte const*>(place);
        for (auto const& [start, bytes] : buried_) {
            if (at >= start && at < start + bytes) {
                fail("touches memory that was given back");
            }
        }
    }

    void bury(std::byte const* start, std::size_t bytes) { buried_.emplace_back(start, bytes); }

    void unbury(std::byte const* start, std::size_t bytes) {
        std::erase_if(buried_, [=](auto const& each) {
            return each.first < start + bytes && start < each.first + each.second;
        });
    }

    void fail(char const* text) {
        if (result_.failure.empty()) {
            result_.failure = text;
            if (stage_ != stage::idle) {
                result_.failure += ", in thread " + std::to_string(thread_);
            }
        }
        if (stage_ != stage::idle) {
            threads_[thread_].context.switch_to(main_);  // never comes back
        }
    }

private:
    void run() {
        current = this;
        buried_.clear();
        places_.clear();
        schedule_.clear();
        depth_ = 0;
        sleeping_ = 0;
        steps_ = 0;
        is_cut_ = false;
        world_ = make_();
        start_threads();
        if (result_.failure.empty()) {
            stage_ = stage::running;
            thread_ = 0;
            before_ = nobody;
            preemptions_ = 0;
            go_on(main_);
        }
        stage_ = stage::idle;
        result_.steps += steps_;
        if (result_.failure.empty()) {
            (is_cut_ ? result_.cut : result_.runs)++;
            if (!is_cut_) {
                world_->finish();
            }
        }
        world_.reset();
        current = nullptr;
    }

    /// Each thread runs up to its first operation.
    void start_threads() {
        stage_ = stage::starting;
        for (unsigned i = 0; i < world_->threads() && result_.failure.empty(); ++i) {
            explored_fiber& each = threads_[i];
            each.has_ended = false;
            each.buffer.clear();
            each.clock = {};
            each.clock[i] = 1;
            each.next = {};
            each.context.start(&explorer::thread_main);
            thread_ = i;
            main_.switch_to(each.context);
        }
    }

    static void thread_main() {
        explorer& self = *current;
        unsigned const me = self.thread_;
        self.world_->run(me);
        self.threads_[me].has_ended = true;
        if (self.stage_ == stage::starting) {
            self.threads_[me].context.switch_to(self.main_);
        } else {
            self.go_on(self.threads_[me].context);
        }
    }

    /// Chooses who is next, and comes back when it is whoever asks.
    void go_on(fiber& from) {
        unsigned action = choose();
        while (action != over && is_drain(action)) {
            drain(thread_of(action));
            action = choose();
        }
        if (action != over) {
            thread_ = action;
        }
        fiber& to = action == over ? main_ : threads_[action].context;
        if (&to != &from) {
            from.switch_to(to);
        }
    }

    void drain(unsigned thread) {
        buffered_store const oldest = threads_[thread].buffer.front();
        threads_[thread].buffer.pop_front();
        oldest.word->bits_ = oldest.bits;
        oldest.word->released_ = oldest.released;
        if (is_replay_) {
            note_line(thread, "drains", oldest.word);
        }
    }

    [[nodiscard]] operation operation_of(unsigned action) const {
        explored_fiber const& whose = threads_[thread_of(action)];
        if (is_drain(action)) {
            return {.place = whose.buffer.front().word, .kind = access::write};
        }
        operation next = whose.next;
        if (next.word != nullptr && next.word->bits_ != next.expected) {
            next.kind = access::read;
        }
        return next;
    }

    [[nodiscard]] bool are_independent(unsigned one, unsigned other) const {
        if (thread_of(one) == thread_of(other)) {
            return false;
        }
        operation const a = operation_of(one);
        operation const b = operation_of(other);
        return a.kind == access::none || b.kind == access::none || !overlap(a, b) ||
               (a.kind == access::read && b.kind == access::read);
    }

    [[nodiscard]] unsigned enabled_actions() const {
        unsigned enabled = 0;
        for (unsigned i = 0; i < world_->threads(); ++i) {
            explored_fiber const& each = threads_[i];
            bool const can_step = !each.has_ended && (!each.next.is_full || each.buffer.empty()) &&
                                  (each.next.mutex == nullptr || !each.next.mutex->is_taken_);
            enabled |= can_step ? 1U << i : 0U;
            enabled |= each.buffer.empty() ? 0U : 1U << (explored_threads_most + i);
        }
        return enabled;
    }

    [[nodiscard]] bool all_have_ended() const {
        return std::all_of(threads_.begin(), threads_.begin() + world_->threads(),
                           [](explored_fiber const& each) { return each.has_ended; });
    }

    [[nodiscard]] bool is_preemption(unsigned action, unsigned enabled) const {
        return !is_drain(action) && action != before_ && before_ != nobody &&
               (enabled & (1U << before_)) != 0;
    }

    [[nodiscard]] unsigned choose() {
        unsigned const enabled = enabled_actions();
        if (enabled == 0 || !result_.failure.empty()) {
            if (!all_have_ended() && result_.failure.empty()) {
                result_.failure = "deadlock: no thread can go on";
            }
            return over;
        }
        if (++steps_ > how_.steps_most) {
            result_.failure = "the run does not end";
            return over;
        }
        unsigned const action = is_replay_              ? scripted(enabled)
                                : depth_ < path_.size() ? repeated(enabled)
                                                        : first_time(enabled);
        if (action == over) {
            return over;
        }
        preemptions_ += is_preemption(action, enabled) ? 1U : 0U;
        before_ = is_drain(action) ? before_ : action;
        schedule_ += letter_of(action);
        ++depth_;
        return action;
    }

    unsigned first_time(unsigned enabled) {
        choice fresh{.enabled = enabled,
                     .sleeping = sleeping_,
                     .before = before_,
                     .preemptions = preemptions_};
        if (!pick(fresh)) {
            is_cut_ = true;
            return over;
        }
        path_.push_back(fresh);
        return repeated(enabled);
    }

    unsigned repeated(unsigned enabled) {
        choice const& here = path_[depth_];
        if (here.enabled != enabled) {
            result_.failure = "the scenario is not the same each time";
            return over;
        }
        sleeping_ = 0;
        unsigned const known = here.sleeping | here.tried;
        for (unsigned i = 0; i < over && how_.preemptions_most >= how_.steps_most; ++i) {
            if ((known & enabled & (1U << i)) != 0 && are_independent(i, here.chosen)) {
                sleeping_ |= 1U << i;
            }
        }
        return here.chosen;
    }

    /// The next action to try, the thread that stepped last before others. False: there is none.
    bool pick(choice& at) {
        unsigned const open = at.enabled & ~at.sleeping & ~at.tried;
        before_ = at.before;
        auto const allowed = [&](unsigned action) {
            unsigned const after = at.preemptions + (is_preemption(action, at.enabled) ? 1U : 0U);
            return (open & (1U << action)) != 0 && after <= how_.preemptions_most;
        };
        if (before_ != nobody && allowed(before_)) {
            at.chosen = before_;
            return true;
        }
        for (unsigned i = 0; i < over; ++i) {
            if (allowed(i)) {
                at.chosen = i;
                return true;
            }
        }
        return false;
    }

    /// Makes path_ the beginning of the next run. False: all were seen.
    bool next_path() {
        while (!path_.empty()) {
            choice& last = path_.back();
            last.tried |= 1U << last.chosen;
            if (pick(last)) {
                return true;
            }
            path_.pop_back();
        }
        return false;
    }

    [[nodiscard]] unsigned scripted(unsigned enabled) {
        if (script_.empty()) {
            return default_action(enabled);
        }
        char const letter = script_.front();
        bool const names_step = std::isdigit(static_cast<unsigned char>(letter)) != 0;
        auto const action = static_cast<unsigned>(
            names_step ? letter - '0' : letter - 'a' + static_cast<int>(explored_threads_most));
        bool const is_repeated = script_.size() > 1 && script_[1] == '*';
        if (is_repeated && names_step && action < nobody && threads_[action].has_ended) {
            script_.remove_prefix(2);
            return scripted(enabled);
        }
        if (action >= over || (enabled & (1U << action)) == 0) {
            result_.failure =
                std::string{"the schedule asks for "} + letter + ", which cannot go on";
            return over;
        }
        script_.remove_prefix(is_repeated ? 0 : 1);
        return action;
    }

    [[nodiscard]] unsigned default_action(unsigned enabled) const {
        if (before_ != nobody && (enabled & (1U << before_)) != 0) {
            return before_;
        }
        unsigned action = 0;
        while ((enabled & (1U << action)) == 0) {
            ++action;
        }
        return action;
    }

    void note(operation const& done) {
        if (is_replay_) {
            note_line(thread_, done.what, done.place);
        }
    }

    void note_line(unsigned thread, char const* what, void const* place) {
        std::size_t const number = places_.emplace(place, places_.size()).first->second;
        result_.trace += "  thread " + std::to_string(thread) + ": " + what + " #" +
                         std::to_string(number) + "\n";
    }

    scenario_maker const& make_;
    exploring how_;
    std::unique_ptr<scenario> world_;
    fiber main_;
    std::array<explored_fiber, explored_threads_most> threads_;
    stage stage_ = stage::idle;
    unsigned thread_ = 0;
    unsigned before_ = nobody;
    unsigned preemptions_ = 0;
    unsigned sleeping_ = 0;  // for the next choice
    std::size_t depth_ = 0;
    std::uint32_t steps_ = 0;
    bool is_cut_ = false;
    std::vector<choice> path_;
    std::string schedule_;
    std::string_view script_;
    bool is_replay_ = false;
    std::vector<std::pair<std::byte const*, std::size_t>> buried_;
    std::map<void const*, std::size_t> places_;
    exploration result_;
};

}  // namespace tarn::test
