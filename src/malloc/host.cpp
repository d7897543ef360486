// The heap's host in the libraries: options from the environment, hooks, reports, statistics at
// exit. Contract: heap/host.hpp.

#include "heap/host.hpp"

#include <atomic>
#include <cstdio>

#include "base/check.hpp"
#include "platform/os.hpp"
#include "platform/threads.hpp"
#include "heap/diversion.hpp"
#include "heap/process.hpp"
#include "control/limits.hpp"
#include "control/live_stats.hpp"
#include "control/options.hpp"
#include "control/owners.hpp"
#include "control/report.hpp"
#include "control/scavenger.hpp"
#include "control/statistics.hpp"
#include "control/statistics_text.hpp"
#include "debug/fork.hpp"
#include "debug/mp_pool.hpp"
#include "debug/sampled_guards.hpp"
#include "malloc/checks.hpp"
#include "malloc/step_aside.hpp"

// glibc's own free under the name by which it stays reachable when free is replaced.
// NOLINTNEXTLINE(bugprone-reserved-identifier): glibc's name
extern "C" void __libc_free(void* ptr) __attribute__((weak));

namespace tarn::impl::heap {

namespace {

void write_fatal(char const* text, unsigned long bytes) noexcept {
    control::write_report({text, bytes});
}

// The value is not used: two copies of Tarn in two link namespaces can be given the same key, and
// then find each other's heap in it.
void thread_exits(void* /*heap*/) {
    thread_heap* const own = own_heap();
    if (own->phase.load(std::memory_order_relaxed) == heap_phase::active) {
        leave_thread(*own);
    }
}

}  // namespace

heap_options host_options() noexcept {
    base::set_fatal_writer(&write_fatal);
    control::load_options();
    // Without it the pages of finished threads stay theirs until the process ends.
    if (!platform::install_thread_exit_hook(&thread_exits)) {
        control::write_report("tarn: no slot left for a thread exit hook\n");
    }
    control::options const& from = control::current_options();
    heap_options result;
    result.space.arena_bytes = from.arena_bytes;
    result.space.purge_delay_ms = static_cast<std::uint32_t>(from.purge_delay_ms);
    result.space.huge_after_bytes =
        from.huge_after_bytes == 0 ? ~std::size_t{0} : from.huge_after_bytes;
    result.thread_cache_bytes = from.thread_cache_bytes;
    result.thread_empty_bytes = from.thread_empty_bytes;
    result.sample_interval_bytes = from.sample_interval_bytes;
    result.hardened = from.mode == control::mode_choice::hardened;
    result.zero_on_free = from.zero_on_free == control::on_off::on;
    stand_in const* const elsewhere = aside::choose_stand_in(from);
    result.answers = elsewhere != nullptr ? elsewhere : checks::configure();
    control::start_limits();
    return result;
}

namespace {

constinit std::atomic<bool> has_fork_hooks{false};

/// Without them a child of a threaded parent may find a lock taken. So as the library is loaded,
/// when hardly any program has threads, or at the first allocation, if that comes before.
__attribute__((constructor)) void install_fork_hooks() noexcept {
    if (has_fork_hooks.exchange(true, std::memory_order_relaxed)) {
        return;
    }
    // Refused only when libc's table is full.
    if (!platform::install_fork_hooks({.prepare =
                                           [] {
                                               debug::hold_for_fork();
                                               control::hold_owners_for_fork();
                                               prepare_fork();
                                           },
                                       .parent =
                                           [] {
                                               fork_in_parent();
                                               control::release_owners_after_fork();
                                               debug::release_after_fork(debug::fork_side::parent);
                                           },
                                       .child = [] { fork_in_child(); }})) {
        control::write_report("tarn: no slot left for fork hooks\n");
    }
}

}  // namespace

void host_started() noexcept {
    install_fork_hooks();
    control::start_live_stats();
    checks::start();
}

void host_thread_entered(void* heap) noexcept {
    static_cast<void>(platform::arm_thread_exit(heap));
}

misuse_verdict host_misuse(misuse const& event) noexcept {
    if (debug::mp.report_for_heap(event)) {
        return misuse_verdict::ignore;
    }
    misuse_verdict verdict = misuse_verdict::ignore;
    return checks::report(event, verdict) ? verdict : control::handle_misuse(event);
}

void host_memory_grew() noexcept { control::note_growth(); }

bool host_limit_met(std::size_t bytes) noexcept { return control::note_refusal(bytes); }

bool host_memory_freed(bool allocating, std::uint64_t now_ms) noexcept {
    control::tick_live_stats(now_ms);
    return control::note_free_memory(allocating ? control::may_start::yes : control::may_start::no);
}

void host_thread_left() noexcept {
    control::note_thread_left();
    if (process.active_heaps.load(std::memory_order_relaxed) == 0) {
        control::leave_pressure();
    }
}

void host_forked() noexcept {
    // First: what follows asks for the time, where wrappers of the program's may allocate.
    control::release_owners_after_fork();
    debug::release_after_fork(debug::fork_side::child);
    control::forget_scavenger();
    control::forget_pressure();
    control::forget_live_stats();
}

void* host_allocate_sample(operation const& asked) noexcept {
    return debug::allocate_guarded_sample(asked);
}

void host_deallocate_sample(operation const& asked) noexcept {
    if (!debug::deallocate_guarded_sample(asked)) {
        bool const is_free = asked.kind == operation_kind::deallocate;
        static_cast<void>(host_misuse({.kind = misuse_kind::foreign_pointer,
                                       .operation = is_free ? "free" : "realloc",
                                       .ptr = asked.block,
                                       .caller = asked.caller}));
    }
}

found_block host_find_sample(void const* ptr) noexcept { return debug::find_guarded_sample(ptr); }

void host_forward_free(void* ptr) noexcept {
    if (&__libc_free != nullptr) {
        __libc_free(ptr);
    }
}

namespace {

void report_statistics() noexcept {
    control::options const& wanted = control::current_options();
    bool const to_file = !wanted.stats_file.empty();
    if (wanted.stats == 0 && !to_file) {
        return;
    }
    base::text_buffer<control::statistics_text_bytes> text;
    if (to_file) {
        control::statistics now = control::collect_statistics();
        control::add_process_figures(now);
        control::describe_statistics(now.with_classes(), TARN_STATS_KEYS, text);
        control::write_file(wanted.stats_file.view(), text.view());
        text.clear();
    }
    if (wanted.stats != 0) {
        control::describe_report_now(text);
        control::write_report(text.view());
    }
}

/// Runs after the program's own destructors and atexit handlers, as far as the loader's order of
/// libraries allows: the preloaded library is the last.
__attribute__((destructor)) void report_at_exit() noexcept {
    if (!start_process()) {  // a program that never allocated has not read the options yet
        return;
    }
    bool const fails = checks::end();
    report_statistics();
    if (fails) {
        {
            program_runs const scope;  // streams may allocate
            std::fflush(nullptr);      // libc's own end comes after this
        }
        control::end_after_report();
    }
}

}  // namespace

}  // namespace tarn::impl::heap
