#include "control/pressure.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

#include "base/errno_keeper.hpp"
#include "platform/event_files.hpp"
#include "platform/os.hpp"
#include "platform/threads.hpp"
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

// How many times poll_ms pass between looks where the kernel says all: limits may be set while we
// run.
constexpr std::uint32_t calm_polls = 30;
constexpr std::uint32_t poll_ms_max = ~std::uint32_t{0} / calm_polls;
// Between two looks at what the kernel says: it may say it thousands of times a second.
constexpr int sensor_pause_ms = 200;
// The sensor looks whether it is to end even if /proc, through which it is woken, has vanished.
constexpr int sensor_wait_ms = 10'000;

struct pressure_watcher {
    std::atomic<watch_phase> state{watch_phase::absent};
    std::atomic<std::uint32_t> change{0};      // rung when `state` has changed
    std::atomic<std::uint32_t> generation{0};  // another one: a fork made the thread not ours
    std::atomic<std::uint32_t> holders{0};     // both threads and `running`; at 0 it is over
    std::atomic<std::uint32_t> alarm{0};       // rung for the thread that calls
    std::atomic<std::uint32_t> told{0};        // the highest level the sensor heard of
    std::atomic<int const*> caller{nullptr};   // the thread that calls, by the address of its errno

    // By the sensor. Its waker lies there when sensor_ready says so.
    std::atomic<bool> sensor_ready{false};
    std::atomic<bool> sensor_settled{false};  // it is ready or deaf; `change` was rung
    std::atomic<bool> hears_stalls{false};
    std::atomic<std::size_t> heard_limit_bytes{no_limit};
    platform::event_waker waker{};

    // Written while starting, then read by the threads.
    void (*call)(pressure_level) noexcept = nullptr;
    std::uint32_t poll_ms = 0;
    std::uint32_t repeat_ms = 0;
    path_text root{};
    cgroup group{};
    memory_limits limits{};
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

/// Waits until the watch has changed since `change` was `seen`.
void wait_for_change(std::uint32_t seen) noexcept { os::wait(watcher.change, seen); }

void settle_sensor() noexcept {
    watcher.sensor_settled.store(true, std::memory_order_release);
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

void ring() noexcept {
    watcher.alarm.fetch_add(1, std::memory_order_release);
    os::wake_one(watcher.alarm);
}

// --- the sensor ----------------------------------------------------------------------------------

class pressure_sensor {
public:
    /// False: the system lets us hear nothing.
    bool open() noexcept {
        if (!files_.open()) {
            return false;
        }
        bool const has_stalls = add_stalls();
        bool const has_usage = watcher.group.version == cgroup_version::v1 && add_thresholds();
        if (watcher.group.version == cgroup_version::v2) {
            add(watcher.group.limiting_directory(), "/memory.events", {}, pressure_level::none);
        }
        if (count_ == 0) {
            return false;
        }
        watcher.waker = files_.waker();
        watcher.hears_stalls.store(has_stalls, std::memory_order_relaxed);
        watcher.heard_limit_bytes.store(has_usage ? watcher.limits.hard_bytes : no_limit,
                                        std::memory_order_relaxed);
        watcher.sensor_ready.store(true, std::memory_order_seq_cst);
        return true;
    }

    /// One event, or none. False: it is deaf.
    bool listen() noexcept {
        std::uint32_t const heard = files_.wait(sensor_wait_ms);
        if (heard == event_files::failed) {
            return false;
        }
        if (heard != 0) {
            std::uint32_t level = 0;
            for (std::size_t i = 0; i < count_; ++i) {
                if ((heard >> i & 1) != 0) {
                    level = std::max(level, static_cast<std::uint32_t>(levels_[i]));
                }
            }
            std::uint32_t before = watcher.told.load(std::memory_order_relaxed);
            while (before < level &&
                   !watcher.told.compare_exchange_weak(before, level, std::memory_order_relaxed)) {
            }
            ring();
            files_.pause(sensor_pause_ms);
        }
        return true;
    }

private:
    using text = base::text_buffer<cgroup::bytes_max + 64>;

    bool note(int source, pressure_level level) noexcept {
        if (source != event_files::refused) {
            levels_[static_cast<std::size_t>(source)] = level;
            ++count_;
        }
        return source != event_files::refused;
    }

    bool add(std::string_view directory, std::string_view name, std::string_view trigger,
             pressure_level level) noexcept {
        text path;
        path << directory << name << '\0';
        return !path.truncated() && note(files_.add_file(path.view().data(), trigger), level);
    }

    bool add_registered(std::string_view name, std::string_view argument,
                        pressure_level level) noexcept {
        text control;
        text path;
        control << watcher.group.limiting_directory() << "/cgroup.event_control" << '\0';
        path << watcher.group.limiting_directory() << name << '\0';
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

    bool add_stalls() noexcept {
        return (watcher.group.version == cgroup_version::v2 &&
                add_stall(watcher.group.directory(), "/memory.pressure")) ||
               add_stall(watcher.root.view(), "/proc/pressure/memory");
    }

    /// Version 1. The thresholds count cache that could be taken back, too: whoever hears of them
    /// looks. pressure_level is the kernel's own measure: how hard it is to find memory.
    bool add_thresholds() noexcept {
        add_registered("/memory.pressure_level", "medium", pressure_level::moderate);
        add_registered("/memory.pressure_level", "critical", pressure_level::critical);
        std::size_t const limit = watcher.limits.hard_bytes;
        if (limit == no_limit) {
            return false;
        }
        bool all = true;
        for (std::size_t const percent : {moderate_percent, critical_percent}) {
            base::text_buffer<24> bytes;
            bytes << static_cast<std::uint64_t>(limit / 100 * percent);
            all =
                add_registered("/memory.usage_in_bytes", bytes.view(), pressure_level::none) && all;
        }
        return all;
    }

    event_files files_;
    std::array<pressure_level, event_files::sources_max> levels_{};
    std::size_t count_ = 0;
};

void run_sensor() noexcept {
    std::uint32_t const generation = watcher.generation.load(std::memory_order_acquire);
    {
        pressure_sensor sensor;
        bool const hears = sensor.open();
        settle_sensor();
        if (hears) {
            ring();  // what happened before is to be seen
            while (goes_on(generation) && sensor.listen()) {
            }
        }
        watcher.sensor_ready.store(false, std::memory_order_seq_cst);
    }
    watcher.hears_stalls.store(false, std::memory_order_relaxed);
    watcher.heard_limit_bytes.store(no_limit, std::memory_order_relaxed);
    ring();  // it polls again
    leave_watch(generation);
}

std::size_t least(memory_limits const& limits) noexcept {
    return std::min(limits.hard_bytes, limits.high_bytes);
}

bool reaches(std::size_t usage, std::size_t limit, std::size_t percent) noexcept {
    return limit != no_limit && usage >= limit / 100 * percent;
}

// --- the thread that calls -----------------------------------------------------------------------

bool is_caller() noexcept {
    // relaxed: equal only to what this thread itself has stored.
    return watcher.caller.load(std::memory_order_relaxed) == &errno;
}

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

/// With a heap, this thread would count as one of the program's. What calls allocate and free is
/// then served as for threads past their exit.
void do_without_heap() noexcept {
    if (heap::this_thread == &heap::empty_heap) {
        heap::this_thread = &heap::finished_heap;
    } else if (heap::this_thread != &heap::finished_heap) {
        heap::leave_thread(*heap::this_thread);
    }
}

/// Calls when the level has risen or has lasted.
class pressure_announcer {
public:
    void note(pressure_level level, std::uint64_t now_ms) noexcept {
        bool const is_due = level > last_ || now_ms - called_ms_ >= watcher.repeat_ms;
        last_ = level;
        if (level != pressure_level::none && is_due) {
            called_ms_ = now_ms;
            watcher.call(level);
        }
    }

    [[nodiscard]] bool is_calm() const noexcept { return last_ == pressure_level::none; }

private:
    pressure_level last_ = pressure_level::none;
    std::uint64_t called_ms_ = 0;
};

void run_caller() noexcept {
    std::uint32_t const generation = watcher.generation.load(std::memory_order_acquire);
    watcher.caller.store(&errno, std::memory_order_relaxed);
    do_without_heap();
    pressure_announcer announcer;
    cgroup group = watcher.group;  // its own: the sensor reads the other
    pressure_reading before = read_pressure(group);
    while (goes_on(generation)) {
        std::uint32_t const heard = watcher.alarm.load(std::memory_order_acquire);
        pressure_reading const now = read_pressure(group);
        auto const told = pressure_level{watcher.told.exchange(0, std::memory_order_relaxed)};
        announcer.note(std::max(told, judge_pressure(before, now)), now.at_ms);
        if (now.at_ms - before.at_ms >= stall_window_ms) {
            before = now;
        }
        before.exhaustions = now.exhaustions;
        if (goes_on(generation)) {
            bool const polls = !announcer.is_calm() || must_poll(now);
            os::wait_for(watcher.alarm, heard,
                         polls ? watcher.poll_ms : watcher.poll_ms * calm_polls);
        }
    }
    if (is_caller()) {  // else a call forked, and this is the child
        watcher.caller.store(nullptr, std::memory_order_relaxed);
    }
    leave_watch(generation);
}

constexpr platform::background_thread sensor_thread{.run = &run_sensor, .name = "tarn-sensor"};
constexpr platform::background_thread caller_thread{.run = &run_caller, .name = "tarn-pressure"};

/// Takes over what is wanted. False: there is nothing to watch.
bool prepare_watch(pressure_watch const& wanted) noexcept {
    if (wanted.root.size() >= path_text::bytes_max) {
        return false;
    }
    watcher.root = {};
    std::copy(wanted.root.begin(), wanted.root.end(), watcher.root.text.begin());
    watcher.call = wanted.call;
    watcher.poll_ms = std::clamp<std::uint32_t>(wanted.poll_ms, 1, poll_ms_max);
    watcher.repeat_ms = wanted.repeat_ms;
    watcher.told.store(0, std::memory_order_relaxed);
    watcher.sensor_settled.store(false, std::memory_order_relaxed);
    watcher.group = find_cgroup(cgroup_controller::memory, wanted.root);
    watcher.limits = read_memory_limits(watcher.group);
    return read_memory_usage(watcher.group) || read_memory_stall(watcher.group, wanted.root);
}

/// With the state `starting`, which keeps others out.
bool launch_watch(pressure_watch const& wanted) noexcept {
    // Calls may be the first to allocate, in a thread that does not start the allocator.
    if (!prepare_watch(wanted) || !heap::start_process()) {
        return false;
    }
    watcher.holders.store(3, std::memory_order_relaxed);
    watcher.generation.fetch_add(1, std::memory_order_release);
    if (!platform::start_background_thread(caller_thread)) {
        return false;
    }
    if (!platform::start_background_thread(sensor_thread)) {
        settle_sensor();
        let_go();  // not the last: the caller goes on, and polls
    }
    for (;;) {
        std::uint32_t const seen = watcher.change.load(std::memory_order_acquire);
        if (watcher.sensor_settled.load(std::memory_order_acquire)) {
            return true;
        }
        wait_for_change(seen);
    }
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
            wait_for_change(seen);
        }
    }
    bool const done = launch_watch(wanted);
    set_state(done ? watch_phase::running : watch_phase::absent);
    return done;
}

void dismiss_pressure_watch() noexcept {
    base::errno_keeper const kept;
    if (!try_change(watch_phase::running, watch_phase::stopping)) {
        return;
    }
    ring();
    // seq_cst: pairs with goes_on(). The waker stays as it is while this thread holds the watch.
    if (watcher.sensor_ready.load(std::memory_order_seq_cst)) {
        platform::wake_event_files(watcher.waker);
    }
    let_go();
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
            wait_for_change(seen);
        }
    }
}

void forget_pressure_watch() noexcept {
    watcher.generation.fetch_add(1, std::memory_order_relaxed);
    watcher.sensor_ready.store(false, std::memory_order_relaxed);
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
