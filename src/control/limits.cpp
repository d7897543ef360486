#include "control/limits.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

#include "base/units.hpp"
#include "platform/os.hpp"
#include "heap/diversion.hpp"
#include "heap/process.hpp"
#include "heap/thread_heap.hpp"
#include "control/cgroup.hpp"
#include "control/options.hpp"
#include "control/pressure.hpp"
#include "control/report.hpp"

namespace tarn::impl::control {

using heap::process;

namespace {

constexpr std::size_t cgroup_matters_bytes = 16 * MiB;  // no limit is so low that less would matter
constexpr std::size_t step_bytes_min = 1 * MiB;
constexpr std::size_t reserve_bytes_max = 1 * MiB;
constexpr unsigned all_kinds = TARN_PRESSURE_SOFT_LIMIT | TARN_PRESSURE_HARD_LIMIT |
                               TARN_PRESSURE_CGROUP | TARN_PRESSURE_SYSTEM;

constinit std::atomic<std::size_t> soft_bytes{0};
constinit std::atomic<std::size_t> reserve_bytes{0};  // as asked for; 0: by itself

/// Given to another only when no call can still be reading it.
struct place {
    std::atomic<bool> taken{false};
    std::atomic<unsigned> kinds{0};  // 0: nobody listens
    std::atomic<tarn_pressure_listener> listener{nullptr};
    std::atomic<void*> context{nullptr};
};

constinit std::array<place, 16> places;

// One thread at a time looks and calls. Who finds it taken goes on; only remove_listener() waits.
enum turn_state : std::uint32_t { nobody, somebody, awaited };

constinit std::atomic<std::uint32_t> turn_word{nobody};
constinit std::atomic<std::uint32_t> turn_thread{0};

class turn {
public:
    turn() noexcept {
        std::uint32_t seen = nobody;
        // seq_cst: see remove_listener().
        mine_ = turn_word.compare_exchange_strong(seen, somebody, std::memory_order_seq_cst);
        if (mine_) {
            turn_thread.store(platform::os::thread_id(), std::memory_order_relaxed);
        }
    }

    turn(turn const&) = delete;
    turn& operator=(turn const&) = delete;

    ~turn() {
        if (mine_) {
            turn_thread.store(0, std::memory_order_relaxed);
            if (turn_word.exchange(nobody, std::memory_order_release) == awaited) {
                platform::os::wake_all(turn_word);
            }
        }
    }

    explicit operator bool() const noexcept { return mine_; }

private:
    bool mine_;
};

constinit std::atomic<std::uint32_t> looks_asked{0};  // by look_soon()

// Of whoever has the turn.
constinit bool cgroup_read = false;
constinit cgroup group{};
constinit std::size_t group_limit = no_limit;

bool call_listeners(tarn_pressure const& event) noexcept {
    heap::program_runs const scope;
    bool any = false;
    for (place const& each : places) {
        // Pairs with the release in add_listener(), and with remove_listener().
        unsigned const kinds = each.kinds.load(std::memory_order_seq_cst);
        if ((kinds & static_cast<unsigned>(event.kind)) != 0) {
            each.listener.load(std::memory_order_relaxed)(
                &event, each.context.load(std::memory_order_relaxed));
            any = true;
        }
    }
    return any;
}

/// Threads keep less from others where a quota lets few of them run at once.
void scale_caches() noexcept {
    constexpr std::uint32_t least = 125;  // thousandths
    std::uint32_t const share = read_cpu_thousandths() / platform::os::cpus_allowed();
    process.cache_cut_thousandths.store(1000 - std::clamp<std::uint32_t>(share, least, 1000),
                                        std::memory_order_relaxed);
}

/// What the cgroup has left before it is at 7/8 of its limit; no_limit: it has none.
std::size_t room_in_group() noexcept {
    if (current_options().cgroup == on_off::off) {
        return no_limit;
    }
    if (!cgroup_read) {
        cgroup_read = true;
        group = find_cgroup(cgroup_controller::memory);
        scale_caches();
    }
    memory_limits const limits = read_memory_limits(group);
    group_limit = std::min(limits.hard_bytes, limits.high_bytes);
    if (group_limit == no_limit) {
        return no_limit;
    }
    std::optional<memory_usage> const usage = read_memory_usage(group);
    std::size_t const used = usage ? usage->needed_bytes : process.space.budget().charged();
    std::size_t const most = group_limit / 8 * 7;
    return most - std::min(used, most);
}

/// What is scarce; kind 0: nothing.
struct shortage {
    tarn_pressure event{};
    std::size_t step_bytes = step_bytes_min;
    std::size_t next_look_bytes = no_limit;  // when so much has been added
};

shortage look() noexcept {
    shortage found;
    std::size_t const held = process.space.budget().charged();
    std::size_t const soft = soft_bytes.load(std::memory_order_relaxed);
    auto const is_scarce = [&found](tarn_pressure_kind kind, std::size_t limit) {
        found.event.kind = kind;
        found.event.limit_bytes = limit;
        found.step_bytes = std::max(limit / 64, step_bytes_min);
        found.next_look_bytes = found.step_bytes;
    };
    found.event.held_bytes = held;
    found.event.level = 1;
    if (held < cgroup_matters_bytes) {
        found.next_look_bytes = cgroup_matters_bytes - held;
    } else if (std::size_t const room = room_in_group(); room == 0) {
        is_scarce(TARN_PRESSURE_CGROUP, group_limit);
    } else if (room != no_limit) {
        found.next_look_bytes = std::max(room / 2, step_bytes_min);  // others use it, too
    }
    if (soft != 0 && held > soft) {
        is_scarce(TARN_PRESSURE_SOFT_LIMIT, soft);
    } else if (soft != 0) {
        found.next_look_bytes = std::min(found.next_look_bytes, soft - held);
    }
    return found;
}

/// After a look; `asked`: looks_asked before it.
void watch_for(shortage const& found, std::uint32_t asked) noexcept {
    bool const never = found.next_look_bytes == no_limit;
    process.space.budget().watch(
        never ? 0 : process.space.budget().charged() + found.next_look_bytes,
        never ? 0 : found.step_bytes);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // see look_soon()
    if (looks_asked.load(std::memory_order_relaxed) != asked) {
        process.space.budget().watch(1, step_bytes_min);
    }
}

/// At the end of the next slow path that takes pages.
void look_soon() noexcept {
    // Pairs with the fence in watch_for(): whoever has looked already and now says what to watch
    // for finds this, or says so before.
    looks_asked.fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    process.space.budget().watch(1, step_bytes_min);
}

void on_system_pressure(pressure_level level) noexcept {
    turn const mine;
    if (!mine) {
        return;  // somebody is being told already
    }
    process.space.purge_all();
    call_listeners({.kind = TARN_PRESSURE_SYSTEM,
                    .level = static_cast<int>(level),
                    .held_bytes = process.space.budget().charged(),
                    .limit_bytes = 0,
                    .wanted_bytes = 0});
}

}  // namespace

void start_limits() noexcept {
    options const& from = current_options();
    std::uint64_t soft = from.soft_limit_bytes;
    if (from.hard_limit_bytes != 0 && soft > from.hard_limit_bytes) {
        write_report("tarn: option soft_limit_bytes lies above hard_limit_bytes; taking that\n");
        soft = from.hard_limit_bytes;
    }
    static_cast<void>(set_limits({.size = sizeof(tarn_limits),
                                  .soft_bytes = soft,
                                  .hard_bytes = from.hard_limit_bytes,
                                  .reserve_bytes = 0}));
}

int set_limits(tarn_limits const& wanted) noexcept {
    if (wanted.hard_bytes != 0 &&
        (wanted.soft_bytes > wanted.hard_bytes || wanted.reserve_bytes > wanted.hard_bytes)) {
        return EINVAL;
    }
    soft_bytes.store(wanted.soft_bytes, std::memory_order_relaxed);
    reserve_bytes.store(wanted.reserve_bytes, std::memory_order_relaxed);
    std::size_t const reserve = wanted.reserve_bytes != 0
                                    ? wanted.reserve_bytes
                                    : std::min(wanted.hard_bytes / 16, reserve_bytes_max);
    process.space.budget().set_hard_limit(wanted.hard_bytes, reserve);
    look_soon();
    return 0;
}

tarn_limits current_limits() noexcept {
    return {.size = sizeof(tarn_limits),
            .soft_bytes = soft_bytes.load(std::memory_order_relaxed),
            .hard_bytes = process.space.budget().hard_limit(),
            .reserve_bytes = reserve_bytes.load(std::memory_order_relaxed)};
}

int add_listener(unsigned kinds, tarn_pressure_listener listener, void* context) noexcept {
    if (listener == nullptr || kinds == 0 || (kinds & ~all_kinds) != 0) {
        return EINVAL;
    }
    bool const is_there = std::any_of(places.begin(), places.end(), [=](place& each) {
        unsigned known = each.kinds.load(std::memory_order_acquire);
        return known != 0 && each.listener.load(std::memory_order_relaxed) == listener &&
               each.context.load(std::memory_order_relaxed) == context &&
               each.kinds.compare_exchange_strong(known, kinds, std::memory_order_seq_cst);
    });
    if (!is_there) {
        auto const free = std::find_if(places.begin(), places.end(), [](place& each) {
            return !each.taken.exchange(true, std::memory_order_acquire);
        });
        if (free == places.end()) {
            return ENOMEM;
        }
        free->listener.store(listener, std::memory_order_relaxed);
        free->context.store(context, std::memory_order_relaxed);
        // release: pairs with the acquire in call_listeners().
        free->kinds.store(kinds, std::memory_order_release);
    }
    look_soon();
    bool const watches =
        (kinds & TARN_PRESSURE_SYSTEM) == 0 || start_pressure_watch({.call = &on_system_pressure});
    return watches ? 0 : EAGAIN;
}

namespace {

/// Whoever has the turn may be calling; whoever takes it later finds what changed before.
void await_calls() noexcept {
    if (turn_thread.load(std::memory_order_relaxed) == platform::os::thread_id()) {
        return;  // inside a call
    }
    // Should somebody else's turn begin meanwhile, that is waited for, too: no harm.
    std::uint32_t seen = turn_word.load(std::memory_order_seq_cst);
    while (seen != nobody) {
        if (seen == awaited ||
            turn_word.compare_exchange_strong(seen, awaited, std::memory_order_seq_cst)) {
            platform::os::wait(turn_word, awaited);
            seen = turn_word.load(std::memory_order_seq_cst);
        }
    }
}

}  // namespace

int remove_listener(tarn_pressure_listener listener, void* context) noexcept {
    for (place& each : places) {
        if (each.listener.load(std::memory_order_relaxed) == listener &&
            each.context.load(std::memory_order_relaxed) == context &&
            each.kinds.exchange(0, std::memory_order_seq_cst) != 0) {
            await_calls();
            each.listener.store(nullptr, std::memory_order_relaxed);
            each.taken.store(false, std::memory_order_release);
            return 0;
        }
    }
    return ENOENT;
}

void note_growth() noexcept {
    turn const mine;
    if (!mine) {
        return;
    }
    std::uint32_t const asked = looks_asked.load(std::memory_order_relaxed);
    shortage found = look();
    if (found.event.kind != 0) {
        process.space.purge_all();
        found = look();
    }
    if (found.event.kind != 0) {
        // What free blocks keep from others, too.
        heap::trim(heap::this_thread, heap::reclaim_scope::process, nullptr);
        found = look();
        if (found.event.kind != 0 && call_listeners(found.event)) {
            process.space.purge_all();
            found = look();
        }
    }
    watch_for(found, asked);
}

bool note_refusal(std::size_t bytes) noexcept {
    turn const mine;
    return mine && call_listeners({.kind = TARN_PRESSURE_HARD_LIMIT,
                                   .level = 2,
                                   .held_bytes = process.space.budget().charged(),
                                   .limit_bytes = process.space.budget().hard_limit(),
                                   .wanted_bytes = bytes});
}

void leave_pressure() noexcept { dismiss_pressure_watch(); }

void forget_pressure() noexcept {
    turn_word.store(nobody, std::memory_order_relaxed);
    turn_thread.store(0, std::memory_order_relaxed);
    cgroup_read = false;
    forget_pressure_watch();
}

}  // namespace tarn::impl::control
