// The C interface of tarn/tarn.h.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/errno_keeper.hpp"

#include "tarn/tarn.h"

#include "heap/diversion.hpp"
#include "heap/process.hpp"
#include "control/audit.hpp"
#include "control/limits.hpp"
#include "control/options.hpp"
#include "control/owners.hpp"
#include "control/report.hpp"
#include "control/statistics.hpp"
#include "control/statistics_text.hpp"
#include "control/watch.hpp"
#include "malloc/entry.hpp"

using tarn::impl::heap::this_thread;
namespace control = tarn::impl::control;
namespace entry = tarn::impl::entry;
namespace heap = tarn::impl::heap;

#define TARN_TEXT(x) #x
#define TARN_VERSION_TEXT(major, minor, patch) \
    TARN_TEXT(major) "." TARN_TEXT(minor) "." TARN_TEXT(patch)

namespace {

bool is_known(tarn_stats const* out) noexcept {
    return out != nullptr && out->size >= sizeof(std::size_t) && out->size <= sizeof(tarn_stats);
}

/// As much as the caller's tarn_stats has room for.
void hand_over(tarn_stats const& from, tarn_stats& to) noexcept {
    std::size_t const size = to.size;
    std::memcpy(&to, &from, size);
    to.size = size;
}

}  // namespace

extern "C" {

char const* tarn_version() noexcept {
    return TARN_VERSION_TEXT(TARN_VERSION_MAJOR, TARN_VERSION_MINOR, TARN_VERSION_PATCH);
}

void* tarn_malloc(std::size_t bytes) noexcept { return this_thread->allocate(bytes); }

void tarn_free(void* block) noexcept { this_thread->deallocate(block); }

void* tarn_calloc(std::size_t count, std::size_t bytes) noexcept {
    return entry::calloc(count, bytes, TARN_CALLER);
}

void* tarn_realloc(void* block, std::size_t bytes) noexcept {
    return entry::realloc(block, bytes, TARN_CALLER);
}

void* tarn_reallocarray(void* block, std::size_t count, std::size_t bytes) noexcept {
    return entry::reallocarray(block, count, bytes, TARN_CALLER);
}

void tarn_free_sized(void* block, std::size_t bytes) noexcept {
    this_thread->deallocate_as<tarn::impl::heap::family::malloc>(block, bytes);
}

void tarn_free_aligned_sized(void* block, std::size_t alignment, std::size_t bytes) noexcept {
    this_thread->deallocate_aligned<tarn::impl::heap::family::malloc>(block, bytes, alignment);
}

void* tarn_aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
    return entry::memalign(alignment, bytes, TARN_CALLER);
}

int tarn_posix_memalign(void** out, std::size_t alignment, std::size_t bytes) noexcept {
    return entry::posix_memalign(out, alignment, bytes, TARN_CALLER);
}

std::size_t tarn_malloc_usable_size(void const* block) noexcept {
    return entry::usable_size(block, TARN_CALLER);
}

tarn_block tarn_block_at(void const* address) noexcept {
    heap::block_home const found = heap::find_home(address);
    return {.bytes = found.bytes, .page = found.home};
}

void tarn_free_in(void* block, void* page) noexcept {
    this_thread->deallocate_in(static_cast<heap::page*>(page), block);
}

std::size_t tarn_find_block(void const* address, void** start) noexcept {
    heap::found_block const found = heap::find_block_around(address);
    *start = found.start;
    return found.bytes;
}

int tarn_stats_get(tarn_stats* out) noexcept {
    return tarn_stats_get_all(out, nullptr, 0, nullptr, 0);
}

int tarn_stats_get_all(tarn_stats* out, tarn_class_stats* classes, std::size_t class_room,
                       tarn_thread_stats* threads, std::size_t thread_room) noexcept {
    if (!is_known(out)) {
        return EINVAL;
    }
    control::statistics now =
        control::collect_statistics({threads, threads == nullptr ? 0 : thread_room});
    control::add_process_figures(now);
    now.by_thread = threads;
    now.by_class = classes;
    now.class_count = classes == nullptr ? 0 : std::min(class_room, now.classes.size());
    std::copy_n(now.classes.begin(), now.class_count, classes);
    hand_over(now, *out);
    return 0;
}

std::size_t tarn_stats_format(tarn_stats const* of, int format, char* to,
                              std::size_t room) noexcept {
    if (of == nullptr) {
        return 0;
    }
    tarn_stats known{};  // of an older caller: the rest is 0
    std::memcpy(&known, of, of->size == 0 ? sizeof known : std::min(of->size, sizeof known));
    tarn::impl::base::text_sink text{to, room == 0 ? 0 : room - 1};
    control::describe_statistics(known, format, text);
    if (room != 0) {
        to[text.view().size()] = '\0';
    }
    return text.length();
}

std::size_t tarn_audit(tarn_stats* out) noexcept {
    control::statistics found;
    std::size_t const contradictions = control::audit(found);
    if (is_known(out)) {
        hand_over(found, *out);
    }
    return contradictions;
}

int tarn_checks_get(tarn_checks* out) noexcept {
    if (out == nullptr || out->size != sizeof(tarn_checks)) {
        return EINVAL;
    }
    heap::stand_in const* const all = heap::current_checker();
    if (all == nullptr) {
        return ENOTSUP;
    }
    heap::stand_in_figures const now = all->figures();
    *out = {.size = sizeof(tarn_checks),
            .live_blocks = now.live_blocks,
            .live_bytes = now.live_bytes,
            .live_peak_bytes = now.live_peak_bytes,
            .quarantined_blocks = now.quarantined_blocks,
            .quarantined_bytes = now.quarantined_bytes,
            .guard_bytes = now.guard_bytes(),
            .checked_blocks = now.checked_blocks,
            .damaged_blocks = now.damaged_blocks,
            .findings = now.findings};
    return 0;
}

std::size_t tarn_check_all() noexcept {
    tarn::impl::base::errno_keeper const keeper;
    heap::stand_in const* const all = heap::current_checker();
    if (all == nullptr) {
        return 0;
    }
    heap::undiverted const served;
    return all->check_all("tarn_check_all", TARN_CALLER).damaged_blocks;
}

int tarn_limits_set(tarn_limits const* limits) noexcept {
    if (limits == nullptr || limits->size != sizeof(tarn_limits)) {
        return EINVAL;
    }
    static_cast<void>(heap::start_process());  // else the options would replace them later
    return control::set_limits(*limits);
}

int tarn_limits_get(tarn_limits* out) noexcept {
    if (out == nullptr || out->size != sizeof(tarn_limits)) {
        return EINVAL;
    }
    static_cast<void>(heap::start_process());
    *out = control::current_limits();
    return 0;
}

int tarn_pressure_listen(unsigned kinds, tarn_pressure_listener listener, void* context) noexcept {
    static_cast<void>(heap::start_process());
    return control::add_listener(kinds, listener, context);
}

int tarn_pressure_unlisten(tarn_pressure_listener listener, void* context) noexcept {
    return control::remove_listener(listener, context);
}

std::size_t tarn_purge(int scope) noexcept {
    switch (scope) {
        case TARN_PURGE_THREAD:
            return heap::trim(this_thread, heap::reclaim_scope::thread, TARN_CALLER);
        case TARN_PURGE_PROCESS:
            return heap::trim(this_thread, heap::reclaim_scope::process, TARN_CALLER);
        default:
            return 0;
    }
}

std::size_t tarn_scavenge() noexcept { return heap::scavenge(this_thread, TARN_CALLER); }

void tarn_report_misuse(char const* text) noexcept {
    static_cast<void>(heap::start_process());  // else the options are not there yet
    control::handle_misuse({.kind = heap::misuse_kind::told, .operation = text});
}

void tarn_report_line(char const* text) noexcept {
    static_cast<void>(heap::start_process());
    control::report_line(text == nullptr ? "" : text);
}

int tarn_watch_begin(tarn_watch* watch) noexcept {
    return watch == nullptr ? EINVAL : control::begin_watch(*watch);
}

int tarn_watch_end(tarn_watch* watch) noexcept {
    return watch == nullptr ? EINVAL : control::end_watch(*watch);
}

int tarn_pools_are_plain() noexcept {
    static_cast<void>(heap::start_process());
    return control::current_options().pools == control::pools_choice::plain ? 1 : 0;
}

size_t tarn_owners_get(tarn_owner_stats* rows, size_t room) noexcept {
    return rows == nullptr ? 0 : control::list_owners({rows, room});
}

void tarn_owner_enter(tarn_owner* owner, char const* kind, char const* name) noexcept {
    tarn::impl::base::errno_keeper const keeper;
    heap::enter_if_new();  // else fork would not know of the lock
    control::enter_owner(*owner, kind, name);
}

void tarn_owner_leave(tarn_owner* owner) noexcept { control::leave_owner(*owner); }

void tarn_owner_add(tarn_owner* owner, int64_t held_bytes, int64_t live_bytes) noexcept {
    control::add_to_owner(*owner, held_bytes, live_bytes);
}

void tarn_stats_print(int fd) noexcept {
    tarn::impl::base::text_buffer<control::statistics_text_bytes> text;
    control::describe_report_now(text);
    tarn::impl::platform::os::write_all(fd, text.view().data(), text.view().size());
}

void tarn_options_print(int fd) noexcept {
    static_cast<void>(tarn::impl::heap::start_process());  // else nobody has read them yet
    tarn::impl::base::text_buffer<control::statistics_text_bytes> text;
    control::describe_options(control::current_options(), text);
    tarn::impl::platform::os::write_all(fd, text.view().data(), text.view().size());
}

}  // extern "C"
