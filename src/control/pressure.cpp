#include "control/pressure.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

#include "base/errno_keeper.hpp"
#include "platform/event_files.hpp"
#include "platform/os.hpp"
#include "platform/threads.hpp"
#include "heap/diversion.hpp"
#include "heap/process.hpp"
#include "control/options.hpp"

namespace tarn::impl::control {

using platform::event_files;
using platform::os;

namespace {

enum class watch_phase : std::uint32_t { absent, starting, running, stopping };

constexpr std::size_t moderate_percent = 85;  // of the limit in use
constexpr std::size_t critical_percent = 95;
constexpr std::uint64_t moderate_stall_percent = 15;  // of the time
constexpr std::uint64_t critical_stall_percent = 10;

// Between two looks at what the kernel says: it may say it thousands of times a second.
constexpr int sensor_pause_ms = 200;
// Between two looks where the kernel says all: limits may be set while we run. And where /proc,
// through which the sensor is woken, has vanished, it looks so often whether it is to end.
constexpr std::uint32_t calm_ms = 60'000;

enum class sensor_verdict : std::uint32_t { none_yet, nothing_to_watch, watching };

struct pressure_watcher {
    std::atomic<watch_phase> state{watch_phase::absent};
    std::atomic<sensor_verdict> verdict{sensor_verdict::none_yet};
    std::atomic<std::uint32_t> change{0};      // rung when one of these has changed
    std::atomic<std::uint32_t> generation{0};  // another one: a fork made the thread not ours
    std::atomic<std::uint32_t> holders{0};     // the threads, and `running`; at 0 it is over
    std::atomic<std::uint32_t> alarm{0};       // rung for the thread that calls
    std::atomic<std::uint32_t> told{0};        // the highest level since that one looked
    std::atomic<int const*> caller{nullptr};   // the thread that calls, by the address of its errno

    // By the sensor. Its waker lies there when has_waker says so; else it is woken by `nap`.
    std::atomic<bool> has_waker{false};
    platform::event_waker waker{};
    std::atomic<std::uint32_t> nap{0};
    std::atomic<bool> hears_stalls{false};
    std::atomic<std::size_t> heard_limit_bytes{no_limit};

    // Written while starting, then read by the threads.
    void (*call)(pressure_level) noexcept = nullptr;
    std::uint32_t poll_ms = 0;
    std::uint32_t repeat_ms = 0;
    path_text root{};
};

constinit pressure_watcher watcher{};

void ring_change() noexcept {
    watcher.change.fetch_add(1, std::memory_order_release);
    os::wake_all(watcher.change);
}

void set_state(watch_phase to) noexcept {
    watcher.state.store(to, std::memory_order_seq_cst);
    ring_change();
}

bool try_change(watch_phase from, watch_phase to) noexcept {
    return watcher.state.compare_exchange_strong(from, to, std::memory_order_seq_cst);
}

/// Whether the calling thread, begun in `generation`, is to go on.
bool goes_on(std::uint32_t generation) noexcept {
    // seq_cst: pairs with the stopper, which changes the state and then looks for a waker; the
    // sensor leaves its waker and then looks at the state.
    return watcher.generation.load(std::memory_order_acquire) == generation &&
           watcher.state.load(std::memory_order_seq_cst) <= watch_phase::running;
}

void let_go() noexcept {
    if (watcher.holders.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        set_state(watch_phase::absent);
    }
}

/// The last act of a thread of the watch.
void leave_watch(std::uint32_t generation) noexcept {
    if (watcher.generation.load(std::memory_order_acquire) == generation) {
        let_go();
    }
}

std::size_t least(memory_limits const& limits) noexcept {
    return std::min(limits.hard_bytes, limits.high_bytes);
}

bool reaches(std::size_t usage, std::size_t limit, std::size_t percent) noexcept {
    return limit != no_limit && usage >= limit / 100 * percent;
}

// --- what the kernel says ------------------------------------------------------------------------

/// The sources of events. Each has a level: what its word says by itself.
class pressure_sources {
public:
    /// False: the system gives this thread no descriptors of its own.
    bool open() noexcept {
        is_open_ = files_.open();
        return is_open_;
    }

    [[nodiscard]] platform::event_waker const& waker() const noexcept { return files_.waker(); }

    void add_all(cgroup const& group, memory_limits const& limits) noexcept {
        if (!is_open_) {
            return;
        }
        watcher.hears_stalls.store(add_stalls(group), std::memory_order_relaxed);
        if (group.version == cgroup_version::v2) {
            add(group.limiting_directory(), "/memory.events", {}, pressure_level::none);
        }
        if (group.version == cgroup_version::v1 && add_thresholds(group, limits.hard_bytes)) {
            watcher.heard_limit_bytes.store(limits.hard_bytes, std::memory_order_relaxed);
        }
    }

    /// Waits for a word, for so long at most.
    pressure_level wait(std::uint32_t most_ms, std::uint32_t heard_nap) noexcept {
        std::uint32_t const told =
            is_open_ ? files_.wait(static_cast<int>(most_ms)) : event_files::failed;
        if (told == event_files::failed) {
            is_open_ = false;
            watcher.hears_stalls.store(false, std::memory_order_relaxed);
            watcher.heard_limit_bytes.store(no_limit, std::memory_order_relaxed);
            os::wait_for(watcher.nap, heard_nap, most_ms);
            return pressure_level::none;
        }
        auto level = pressure_level::none;
        for (std::size_t i = 0; i < levels_.size(); ++i) {
            if ((told >> i & 1) != 0) {
                level = std::max(level, levels_[i]);
            }
        }
        if (told != 0) {
            files_.pause(sensor_pause_ms);
        }
        return level;
    }

private:
    using text = base::text_buffer<cgroup::bytes_max + 64>;

    bool note(int source, pressure_level level) noexcept {
        if (source == event_files::refused) {
            return false;
        }
        levels_[static_cast<std::size_t>(source)] = level;
        return true;
    }

    bool add(std::string_view directory, std::string_view name, std::string_view trigger,
             pressure_level level) noexcept {
        text path;
        path << directory << name << '\0';
        return !path.truncated() && note(files_.add_file(path.view().data(), trigger), level);
    }

    bool add_registered(std::string_view directory, std::string_view name,
                        std::string_view argument, pressure_level level) noexcept {
        text control;
        text path;
        control << directory << "/cgroup.event_control" << '\0';
        path << directory << name << '\0';
        return !path.truncated() && !control.truncated() &&
               note(files_.add_registered(control.view().data(), path.view().data(), argument),
                    level);
    }

    /// Of a window of 1 s, else of 2 s: the least that the kernel grants ordinary users.
    bool add_stall(std::string_view directory, std::string_view name) noexcept {
        return (add(directory, name, "some 150000 1000000", pressure_level::moderate) ||
                add(directory, name, "some 300000 2000000", pressure_level::moderate)) &&
               (add(directory, name, "full 100000 1000000", pressure_level::critical) ||
                add(directory, name, "full 200000 2000000", pressure_level::critical));
    }

    bool add_stalls(cgroup const& group) noexcept {
        return (group.version == cgroup_version::v2 &&
                add_stall(group.directory(), "/memory.pressure")) ||
               add_stall(watcher.root.view(), "/proc/pressure/memory");
    }

    /// Version 1. The thresholds count cache that could be taken back, too: whoever hears of them
    /// looks. pressure_level is the kernel's own measure: how hard it is to find memory.
    bool add_thresholds(cgroup const& group, std::size_t limit) noexcept {
        std::string_view const in = group.limiting_directory();
        add_registered(in, "/memory.pressure_level", "medium", pressure_level::moderate);
        add_registered(in, "/memory.pressure_level", "critical", pressure_level::critical);
        bool all = limit != no_limit;
        for (std::size_t const percent : {moderate_percent, critical_percent}) {
            base::text_buffer<24> bytes;
            bytes << static_cast<std::uint64_t>(limit / 100 * percent);
            all = all &&
                  add_registered(in, "/memory.usage_in_bytes", bytes.view(), pressure_level::none);
        }
        return all;
    }

    event_files files_;
    bool is_open_ = false;
    std::array<pressure_level, event_files::sources_max> levels_{};
};

// --- the sensor ----------------------------------------------------------------------------------

pressure_reading read_pressure(cgroup& group) noexcept {
    pressure_reading reading;
    reading.at_ms = os::monotonic_ms();
    reading.limits = read_memory_limits(group);
    reading.usage = read_memory_usage(group);
    reading.exhaustions = memory_exhaustions(group);
    reading.stall = read_memory_stall(group, watcher.root.view());
    return reading;
}

/// Whether something matters that the kernel does not say by itself.
bool must_poll(pressure_reading const& now) noexcept {
    bool const has_limit = now.usage && least(now.limits) != no_limit;
    // The thresholds are in the wrong places when the limit has changed. And they have been passed
    // when cache fills the group: what takes the place of cache passes none.
    bool const hears_usage =
        watcher.heard_limit_bytes.load(std::memory_order_relaxed) == least(now.limits) &&
        now.usage && !reaches(now.usage->charged_bytes, least(now.limits), moderate_percent);
    return (has_limit && !hears_usage) ||
           (now.stall && !watcher.hears_stalls.load(std::memory_order_relaxed));
}

/// Rings for the thread that calls.
void ring_alarm() noexcept {
    watcher.alarm.fetch_add(1, std::memory_order_release);
    os::wake_one(watcher.alarm);
}

/// Tells the other thread when the level has risen or has lasted.
class pressure_announcer {
public:
    void note(pressure_level level, std::uint64_t now_ms) noexcept {
        bool const is_due = level > last_ || now_ms - told_ms_ >= watcher.repeat_ms;
        last_ = level;
        if (level == pressure_level::none || !is_due) {
            return;
        }
        told_ms_ = now_ms;
        auto const word = static_cast<std::uint32_t>(level);
        std::uint32_t before = watcher.told.load(std::memory_order_relaxed);
        while (before < word &&
               !watcher.told.compare_exchange_weak(before, word, std::memory_order_relaxed)) {
        }
        ring_alarm();
    }

    [[nodiscard]] bool is_calm() const noexcept { return last_ == pressure_level::none; }

private:
    pressure_level last_ = pressure_level::none;
    std::uint64_t told_ms_ = 0;
};

void settle(sensor_verdict verdict) noexcept {
    watcher.verdict.store(verdict, std::memory_order_release);
    ring_change();
}

void sense(pressure_sources& sources, std::uint32_t generation) noexcept {
    cgroup group = find_cgroup(cgroup_controller::memory, watcher.root.view());
    pressure_reading before = read_pressure(group);
    if (!before.usage && !before.stall) {
        settle(sensor_verdict::nothing_to_watch);
        return;
    }
    sources.add_all(group, before.limits);
    settle(sensor_verdict::watching);
    pressure_announcer announcer;
    auto told = pressure_level::none;
    for (;;) {
        std::uint32_t const heard_nap = watcher.nap.load(std::memory_order_acquire);
        if (!goes_on(generation)) {
            return;
        }
        pressure_reading const now = read_pressure(group);
        announcer.note(std::max(told, judge_pressure(before, now)), now.at_ms);
        if (now.at_ms - before.at_ms >= stall_window_ms) {
            before = now;
        }
        before.exhaustions = now.exhaustions;
        bool const polls = !announcer.is_calm() || must_poll(now);
        told = sources.wait(polls ? watcher.poll_ms : std::min(watcher.poll_ms * 30, calm_ms),
                            heard_nap);
    }
}

void run_sensor() noexcept {
    std::uint32_t const generation = watcher.generation.load(std::memory_order_acquire);
    {
        pressure_sources sources;
        if (sources.open()) {
            watcher.waker = sources.waker();
            watcher.has_waker.store(true, std::memory_order_seq_cst);
        }
        sense(sources, generation);
        watcher.has_waker.store(false, std::memory_order_seq_cst);
    }
    watcher.hears_stalls.store(false, std::memory_order_relaxed);
    watcher.heard_limit_bytes.store(no_limit, std::memory_order_relaxed);
    leave_watch(generation);
}

// --- the thread that calls -----------------------------------------------------------------------

bool is_caller() noexcept {
    // relaxed: equal only to what this thread itself has stored.
    return watcher.caller.load(std::memory_order_relaxed) == &errno;
}

/// With a heap, this thread would count as one of the program's. What calls allocate and free is
/// then served as for threads past their exit.
void do_without_heap() noexcept {
    heap::thread_heap* const own = heap::own_heap();
    if (own == &heap::empty_heap) {
        heap::end_diversions();
        heap::this_thread = &heap::finished_heap;
        heap::divert_finished_thread();
    } else if (own != &heap::finished_heap) {
        heap::leave_thread(*own);
    }
}

void run_caller() noexcept {
    std::uint32_t const generation = watcher.generation.load(std::memory_order_acquire);
    watcher.caller.store(&errno, std::memory_order_relaxed);
    do_without_heap();
    for (;;) {
        // acquire: pairs with the release in ring_alarm(), before which `told` was raised.
        std::uint32_t const heard = watcher.alarm.load(std::memory_order_acquire);
        if (!goes_on(generation)) {
            break;
        }
        auto const level = pressure_level{watcher.told.exchange(0, std::memory_order_relaxed)};
        if (level == pressure_level::none) {
            os::wait(watcher.alarm, heard);
        } else {
            watcher.call(level);
        }
    }
    if (is_caller()) {  // else a call forked, and this is the child
        watcher.caller.store(nullptr, std::memory_order_relaxed);
    }
    leave_watch(generation);
}

// --- from start to end ---------------------------------------------------------------------------

constexpr platform::background_thread sensor_thread{.run = &run_sensor, .name = "tarn-sensor"};
constexpr platform::background_thread caller_thread{.run = &run_caller, .name = "tarn-pressure"};

/// Tells both threads that the state has changed.
void wake_threads() noexcept {
    ring_alarm();
    watcher.nap.fetch_add(1, std::memory_order_release);
    os::wake_one(watcher.nap);
    // seq_cst: pairs with goes_on(). The waker stays as it is while this thread holds the watch.
    if (watcher.has_waker.load(std::memory_order_seq_cst)) {
        platform::wake_event_files(watcher.waker);
    }
}

sensor_verdict wait_for_verdict() noexcept {
    for (;;) {
        std::uint32_t const seen = watcher.change.load(std::memory_order_acquire);
        sensor_verdict const verdict = watcher.verdict.load(std::memory_order_acquire);
        if (verdict != sensor_verdict::none_yet) {
            return verdict;
        }
        os::wait(watcher.change, seen);
    }
}

/// With the state `starting`, which keeps others out. False: the state will be `absent`.
bool launch_watch(pressure_watch const& wanted) noexcept {
    watcher.root = {};
    std::copy(wanted.root.begin(), wanted.root.end(), watcher.root.text.begin());
    watcher.call = wanted.call;
    watcher.poll_ms = std::clamp<std::uint32_t>(wanted.poll_ms, 1, calm_ms);
    watcher.repeat_ms = wanted.repeat_ms;
    watcher.told.store(0, std::memory_order_relaxed);
    watcher.verdict.store(sensor_verdict::none_yet, std::memory_order_relaxed);
    watcher.holders.store(2, std::memory_order_relaxed);  // the sensor, and this thread for now
    watcher.generation.fetch_add(1, std::memory_order_release);
    if (!platform::start_background_thread(sensor_thread)) {
        set_state(watch_phase::absent);
        return false;
    }
    if (wait_for_verdict() == sensor_verdict::watching) {
        watcher.holders.fetch_add(1, std::memory_order_relaxed);
        if (platform::start_background_thread(caller_thread)) {
            set_state(watch_phase::running);
            return true;
        }
        let_go();
        set_state(watch_phase::stopping);
        wake_threads();
    }
    let_go();
    return false;
}

}  // namespace

pressure_level judge_pressure(pressure_reading const& before,
                              pressure_reading const& now) noexcept {
    bool moderate = false;
    bool critical = now.exhaustions > before.exhaustions;
    if (now.usage) {
        std::size_t const usage = now.usage->needed_bytes;
        moderate = reaches(usage, least(now.limits), moderate_percent);
        critical = critical || reaches(usage, now.limits.hard_bytes, critical_percent) ||
                   (now.limits.high_bytes != no_limit && usage >= now.limits.high_bytes);
    }
    std::uint64_t const passed_ms = now.at_ms - before.at_ms;
    if (now.stall && before.stall && passed_ms >= stall_window_ms) {
        auto const lasts = [&](std::uint64_t from_us, std::uint64_t to_us, std::uint64_t percent) {
            return to_us > from_us && to_us - from_us >= passed_ms * 10 * percent;
        };
        moderate =
            moderate || lasts(before.stall->some_us, now.stall->some_us, moderate_stall_percent);
        critical =
            critical || lasts(before.stall->full_us, now.stall->full_us, critical_stall_percent);
    }
    return critical   ? pressure_level::critical
           : moderate ? pressure_level::moderate
                      : pressure_level::none;
}

bool start_pressure_watch(pressure_watch const& wanted) noexcept {
    base::errno_keeper const kept;
    // The thread that calls has no heap, whose first use would start the allocator.
    if (wanted.root.size() >= path_text::bytes_max || !heap::start_process()) {
        return false;
    }
    while (!try_change(watch_phase::absent, watch_phase::starting)) {
        std::uint32_t const seen = watcher.change.load(std::memory_order_acquire);
        watch_phase const now = watcher.state.load(std::memory_order_acquire);
        if (now == watch_phase::running) {
            return true;
        }
        if (now == watch_phase::stopping && is_caller()) {
            return false;
        }
        if (now != watch_phase::absent) {
            os::wait(watcher.change, seen);
        }
    }
    return launch_watch(wanted);
}

void dismiss_pressure_watch() noexcept {
    base::errno_keeper const kept;
    if (try_change(watch_phase::running, watch_phase::stopping)) {
        wake_threads();
        let_go();
    }
}

void stop_pressure_watch() noexcept {
    base::errno_keeper const kept;
    for (;;) {
        dismiss_pressure_watch();
        std::uint32_t const seen = watcher.change.load(std::memory_order_acquire);
        watch_phase const now = watcher.state.load(std::memory_order_acquire);
        if (now == watch_phase::absent || (now == watch_phase::stopping && is_caller())) {
            return;
        }
        if (now != watch_phase::running) {
            os::wait(watcher.change, seen);
        }
    }
}

void forget_pressure_watch() noexcept {
    watcher.generation.fetch_add(1, std::memory_order_relaxed);
    watcher.has_waker.store(false, std::memory_order_relaxed);
    watcher.hears_stalls.store(false, std::memory_order_relaxed);
    watcher.heard_limit_bytes.store(no_limit, std::memory_order_relaxed);
    watcher.caller.store(nullptr, std::memory_order_relaxed);
    watcher.state.store(watch_phase::absent, std::memory_order_relaxed);
}

pressure_events current_pressure_events() noexcept {
    return {.runs = watcher.state.load(std::memory_order_acquire) == watch_phase::running,
            .usage_limit_bytes = watcher.heard_limit_bytes.load(std::memory_order_relaxed),
            .stalls = watcher.hears_stalls.load(std::memory_order_relaxed)};
}

}  // namespace tarn::impl::control
