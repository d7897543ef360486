#include "control/watch.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

#include "base/errno_keeper.hpp"
#include "heap/diversion.hpp"
#include "heap/process.hpp"

namespace tarn::impl::control {

namespace {

using heap::operation;
using heap::operation_kind;

constexpr unsigned is_off = 0;  // tarn_watch::state
constexpr unsigned is_on = 1;

void* answer_watched(heap::diversion& self, operation const& asked) noexcept;

/// Lies in tarn_watch::reserved while the watch is on.
struct watch_record final : heap::diversion {
    explicit watch_record(tarn_watch& watch) noexcept : diversion{&answer_watched}, of{&watch} {}

    tarn_watch* of;
};

static_assert(sizeof(watch_record) <= sizeof tarn_watch::reserved);
static_assert(alignof(watch_record) <= alignof(void*));

watch_record& record_of(tarn_watch& watch) noexcept {
    return *std::launder(reinterpret_cast<watch_record*>(static_cast<void*>(watch.reserved)));
}

tarn_operation describe(operation const& asked) noexcept {
    tarn_operation shown{.kind = TARN_ALLOCATE,
                         .name = "malloc",
                         .block = asked.block,
                         .bytes = asked.bytes,
                         .alignment = asked.alignment,
                         .caller = asked.caller};
    switch (asked.kind) {
        case operation_kind::allocate:
            break;
        case operation_kind::allocate_zeroed:
            shown.name = "calloc";
            break;
        case operation_kind::allocate_aligned:
            shown.name = "memalign";
            break;
        case operation_kind::reallocate:
            shown.kind = TARN_RESIZE;
            shown.name = "realloc";
            break;
        case operation_kind::deallocate:
            shown.kind = TARN_FREE;
            shown.name = "free";
            break;
    }
    return shown;
}

/// A live block; null: `block` is none, which its operation reports.
heap::found_block found_at(void const* block) noexcept {
    heap::found_block const found = heap::find_block_around(block);
    return found.start == block ? found : heap::found_block{};
}

bool is_refused(tarn_watch const& watch, operation const& asked) noexcept {
    if (watch.decide == nullptr) {
        return false;
    }
    base::errno_keeper const keeper;
    tarn_operation const shown = describe(asked);
    heap::program_runs const scope;
    return watch.decide(&shown, watch.context) != 0 && asked.kind != operation_kind::deallocate;
}

void count(tarn_watch& watch, operation const& asked, void const* result,
           heap::found_block const& before) noexcept {
    if (asked.kind == operation_kind::deallocate) {
        watch.frees += before.start == nullptr ? 0 : 1;
        watch.freed_bytes += before.bytes;
        return;
    }
    if (result == nullptr) {
        ++watch.failures;
        return;
    }
    ++(asked.kind == operation_kind::reallocate ? watch.reallocations : watch.allocations);
    watch.requested_bytes += asked.bytes;
    watch.allocated_bytes += found_at(result).bytes;
    watch.freed_bytes += before.bytes;
    watch.peak_live_bytes =
        std::max(watch.peak_live_bytes,
                 static_cast<std::int64_t>(watch.allocated_bytes - watch.freed_bytes));
}

void* answer_watched(heap::diversion& self, operation const& asked) noexcept {
    tarn_watch& watch = *static_cast<watch_record&>(self).of;
    if (is_refused(watch, asked)) {
        ++watch.failures;
        errno = ENOMEM;
        return nullptr;
    }
    heap::found_block const before =
        asked.block == nullptr ? heap::found_block{} : found_at(asked.block);
    bool const is_alone = (watch.flags & TARN_WATCH_ALONE) != 0;
    void* const result = is_alone ? heap::diversion::perform(asked) : self.pass_on(asked);
    base::errno_keeper const keeper;
    count(watch, asked, result, before);
    return result;
}

}  // namespace

int begin_watch(tarn_watch& watch) noexcept {
    if (watch.size != sizeof(tarn_watch) || watch.state != is_off ||
        (watch.flags & ~unsigned{TARN_WATCH_ALONE}) != 0) {
        return EINVAL;
    }
    watch.state = is_on;
    auto* const record = ::new (static_cast<void*>(watch.reserved)) watch_record{watch};
    record->begin();
    return 0;
}

int end_watch(tarn_watch& watch) noexcept {
    // The record of a copy is that of the original.
    if (watch.size != sizeof(tarn_watch) || watch.state != is_on || record_of(watch).of != &watch ||
        !record_of(watch).end()) {
        return EINVAL;
    }
    watch.state = is_off;
    return 0;
}

}  // namespace tarn::impl::control
