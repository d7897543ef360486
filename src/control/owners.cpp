#include "control/owners.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "base/ranked_mutex.hpp"
#include "base/thread_annotations.hpp"
#include "platform/os.hpp"
#include "heap/process.hpp"
#include "heap/user_heap.hpp"

namespace tarn::impl::control {

namespace {

constinit base::ranked_mutex<base::lock_rank::owners, platform::os> mutex;
constinit tarn_owner* first TARN_GUARDED_BY(mutex) = nullptr;

// relaxed, here and in add(): a figure that one thread writes and any may read, with no order to
// anything else.
std::uint64_t read(std::uint64_t& figure) noexcept {
    return std::atomic_ref{figure}.load(std::memory_order_relaxed);
}

void add(std::uint64_t& figure, std::int64_t by) noexcept {
    std::uint64_t const sum = read(figure) + static_cast<std::uint64_t>(by);
    std::atomic_ref{figure}.store(sum, std::memory_order_relaxed);
}

/// As much of `from` as there is room for.
template <std::size_t Room>
void copy_text(char const* from, char (&to)[Room]) noexcept {
    std::size_t const length = ::strnlen(from, Room - 1);
    std::memcpy(to, from, length);
    to[length] = '\0';
}

tarn_owner_stats row_of(tarn_owner& owner) noexcept {
    tarn_owner_stats row{};
    copy_text(owner.kind, row.kind);
    copy_text(owner.name, row.name);
    row.owners = 1;
    row.held_bytes = read(owner.held_bytes);
    row.live_bytes = read(owner.live_bytes);
    return row;
}

tarn_owner_stats row_of(heap::user_heap_figures const& figures) noexcept {
    tarn_owner_stats row{};
    copy_text("heap", row.kind);
    copy_text(figures.name.data(), row.name);
    row.owners = 1;
    row.held_bytes = figures.held_bytes;
    row.live_bytes = figures.live_bytes;
    return row;
}

bool is_alike(tarn_owner_stats const& one, tarn_owner_stats const& other) noexcept {
    return std::strcmp(one.kind, other.kind) == 0 && std::strcmp(one.name, other.name) == 0;
}

void add_row(tarn_owner_stats& to, tarn_owner_stats const& row) noexcept {
    to.owners += row.owners;
    to.held_bytes += row.held_bytes;
    to.live_bytes += row.live_bytes;
}

}  // namespace

void enter_owner(tarn_owner& owner, char const* kind, char const* name) noexcept {
    base::lock_guard const guard{mutex};
    owner = {.kind = kind == nullptr ? "" : kind,
             .name = name == nullptr ? "" : name,
             .held_bytes = 0,
             .live_bytes = 0,
             .next = first,
             .previous = nullptr};
    if (first != nullptr) {
        first->previous = &owner;
    }
    first = &owner;
}

void leave_owner(tarn_owner& owner) noexcept {
    base::lock_guard const guard{mutex};
    (owner.previous != nullptr ? owner.previous->next : first) = owner.next;
    if (owner.next != nullptr) {
        owner.next->previous = owner.previous;
    }
}

void add_to_owner(tarn_owner& owner, std::int64_t held_bytes, std::int64_t live_bytes) noexcept {
    add(owner.held_bytes, held_bytes);
    add(owner.live_bytes, live_bytes);
}

std::size_t list_owners(std::span<tarn_owner_stats> rows) noexcept {
    if (rows.empty()) {
        return 0;
    }
    std::size_t count = 0;
    auto const enter = [rows, &count](tarn_owner_stats const& row) {
        auto const end = rows.begin() + static_cast<std::ptrdiff_t>(count);
        auto const alike = std::find_if(rows.begin(), end,
                                        [&row](auto const& other) { return is_alike(row, other); });
        if (alike != end) {
            add_row(*alike, row);
        } else if (count < rows.size()) {
            rows[count] = row;
            ++count;
        } else {
            add_row(rows.back(), row);
            copy_text("others", rows.back().kind);
            copy_text("", rows.back().name);
        }
    };
    {
        base::lock_guard const guard{mutex};
        for (tarn_owner* each = first; each != nullptr; each = each->next) {
            enter(row_of(*each));
        }
    }
    heap::process.user_heaps.for_each([&enter](heap::user_heap const& each) {
        heap::user_heap_figures const figures = heap::measure_heap(each);
        if (figures.id != heap::heap_id::none) {
            enter(row_of(figures));
        }
    });
    std::sort(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count),
              [](tarn_owner_stats const& one, tarn_owner_stats const& other) {
                  return one.held_bytes > other.held_bytes;
              });
    return count;
}

void hold_owners_for_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS { mutex.lock(); }

void release_owners_after_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS { mutex.unlock(); }

}  // namespace tarn::impl::control
