#include "heap/page.hpp"

#include <algorithm>
#include <atomic>
#include <bit>

#include "base/bits.hpp"
#include "base/check.hpp"
#include "platform/os.hpp"
#include "heap/block_set.hpp"
#include "heap/host.hpp"
#include "heap/process.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

using platform::os;

namespace {

/// Bits [first, end) of a word.
std::uint64_t bit_range(std::size_t first, std::size_t end) noexcept {
    std::uint64_t const below_end = end >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << end) - 1;
    return below_end & (~std::uint64_t{0} << first);
}

}  // namespace

// One bit for each OS page of the largest page.
static_assert(sizing::page_slices_max * sizing::slice_bytes <= 64 * platform::os_page_bytes_min);

/// The OS pages that these blocks overlap.
std::uint64_t page::os_pages_of(std::size_t first_index, std::size_t count) const noexcept {
    std::size_t const os_page = os::page_bytes();
    std::size_t const bytes = block_bytes.get();
    return bit_range(first_index * bytes / os_page,
                     base::divide_up((first_index + count) * bytes, os_page));
}

bool page::is_unlisted(std::size_t index) const noexcept {
    return (purged.get() & os_pages_of(index, 1)) != 0;
}

int page::count_unlisted() const noexcept {
    std::size_t const os_page = os::page_bytes();
    std::size_t const bytes = block_bytes.get();
    auto const made = static_cast<std::size_t>(capacity.get());
    std::size_t count = 0;
    std::size_t counted_to = 0;  // a block may reach from one stretch into the next
    for (std::uint64_t left = purged.get(); left != 0;) {
        auto const first = static_cast<std::size_t>(std::countr_zero(left));
        std::size_t const end = first + static_cast<std::size_t>(std::countr_one(left >> first));
        std::size_t const from = std::max(first * os_page / bytes, counted_to);
        std::size_t const to = std::min(base::divide_up(end * os_page, bytes), made);
        if (to > from) {
            count += to - from;
            counted_to = to;
        }
        left &= ~bit_range(first, end);
    }
    return static_cast<int>(count);
}

void page::set_purged(std::uint64_t now) noexcept {
    auto const before = static_cast<std::size_t>(std::popcount(purged.get()));
    auto const after = static_cast<std::size_t>(std::popcount(now));
    purged.set(now);
    // Modulo 2^64: where more is given back than before, that is a refund.
    process.space.budget().charge((before - after) * os::page_bytes());
}

bool page::touch(std::size_t first_index, std::size_t count, space::allowance wants) noexcept {
    std::uint64_t const needed = purged.get() & os_pages_of(first_index, count);
    if (needed == 0) [[likely]] {
        return true;
    }
    auto const made = static_cast<std::size_t>(capacity.get());
    if ((needed & os_pages_of(0, made)) != 0 ||
        !process.space.budget().try_charge(
            static_cast<std::size_t>(std::popcount(needed)) * os::page_bytes(), wants)) {
        return false;
    }
    purged.set(purged.get() & ~needed);
    return true;
}

void page::touch_all() noexcept {
    if (purged.get() != 0) {
        set_purged(0);
    }
}

std::size_t page::purge_inside() noexcept {
    TARN_ASSERT(!counts_down());
    std::size_t const os_page = os::page_bytes();
    auto const made = static_cast<std::size_t>(capacity.get());
    block_set free_blocks{*this};
    if (has_states()) {
        free_blocks.add_free_states();
    } else {
        free_blocks.add_list(local);
    }
    std::uint64_t busy = 0;
    for (std::size_t index = 0; index < made; ++index) {
        if (!free_blocks.contains(index) && !is_unlisted(index)) {
            busy |= os_pages_of(index, 1);
        }
    }
    // What was never made reads as zero, or is left over from an earlier page.
    std::size_t const end = fresh_zeroed ? made : static_cast<std::size_t>(reserved.get());
    std::uint64_t todo = os_pages_of(0, end) & ~busy & ~purged.get();
    // First off the list, then given back: the links would come back as zero. A fork may come at
    // any time: at each instruction a free block is in the list, or unlisted, or both.
    set_purged(purged.get() | todo);
    std::atomic_signal_fence(std::memory_order_release);
    // No further than the list made sense above: a misuse may have torn it.
    block* last_kept = nullptr;
    block* at = local;
    for (std::size_t left = has_states() ? 0 : free_blocks.size(); left != 0; --left) {
        block* const next = read_link(at);
        if (!is_unlisted(index_of(at))) {
            last_kept = at;
        } else if (last_kept == nullptr) {
            local = next;
        } else {
            write_link(last_kept, next);
        }
        at = next;
    }
    std::size_t bytes_gone = 0;
    while (todo != 0) {
        auto const first = static_cast<std::size_t>(std::countr_zero(todo));
        auto const count = static_cast<std::size_t>(std::countr_one(todo >> first));
        if (os::purge(start + first * os_page, count * os_page)) {
            bytes_gone += count * os_page;
        }
        todo &= ~bit_range(first, first + count);
    }
    return bytes_gone;
}

int page::relist(block*& to, space::allowance wants) noexcept {
    if (purged.get() == 0) {
        return 0;
    }
    std::size_t const os_page = os::page_bytes();
    std::size_t const bytes = block_bytes.get();
    auto const made = static_cast<std::size_t>(capacity.get());
    block* list = nullptr;
    int count = 0;
    while (count == 0 && (purged.get() & os_pages_of(0, made)) != 0 &&
           process.space.budget().try_charge(os_page, wants)) {
        auto const lowest = static_cast<std::size_t>(std::countr_zero(purged.get()));
        std::uint64_t const others = purged.get() & (purged.get() - 1);
        // Those that overlap this OS page, and none that is still away.
        std::size_t const first = lowest * os_page / bytes;
        std::size_t const end = std::min(base::divide_up((lowest + 1) * os_page, bytes), made);
        for (std::size_t index = end; index-- > first;) {
            if ((others & os_pages_of(index, 1)) == 0) {
                void* const again = start + index * bytes;
                ++count;
                if (has_states()) {
                    seal_alone(again, mix(again));
                    continue;
                }
                write_link(again, list);
                list = static_cast<block*>(again);
            }
        }
        if (count != 0) {
            to = list;
            std::atomic_signal_fence(std::memory_order_release);  // as in purge_inside()
        }
        purged.set(others);  // charged above
    }
    return count;
}

void page::collect_remote() noexcept {
    TARN_ASSERT(!counts_down());
    remote_state seen = remote.look();
    if (seen.list() == nullptr && seen.how() == hold::held) {
        return;
    }
    block* const own = local;
    bool joined = false;
    do {
        if (static_cast<int>(seen.count()) > out.get()) {
            local = own;
            static_cast<void>(remote.take());
            host_misuse({.kind = misuse_kind::double_free,
                         .operation = "free",
                         .ptr = seen.list(),
                         .block = seen.list(),
                         .block_bytes = block_bytes.get()});
            return;
        }
        if (block* const list = has_states() ? nullptr : seen.list()) {
            if (!joined) {
                block* last = list;
                for (std::uint32_t i = 1; i < seen.count(); ++i) {
                    block* const next = next_in_list(last);
                    if (next == nullptr) {
                        break;  // somebody wrote into it: what followed is lost
                    }
                    last = next;
                }
                write_link(last, own);
                joined = true;
            }
            local = list;
        }
    } while (!remote.try_take(seen));
    out.set(out.get() - static_cast<int>(seen.count()));
}

void page::rebuild_empty() noexcept {
    block* rebuilt = nullptr;
    for (int index = capacity.get(); index-- > 0;) {
        std::byte* const at = start + static_cast<std::size_t>(index) * block_bytes.get();
        if (has_states()) {
            seal_alone(at, mix(at));
            states.get()[index].store(state_free, std::memory_order_relaxed);
            continue;
        }
        write_link(at, rebuilt);
        rebuilt = reinterpret_cast<block*>(at);
    }
    local = rebuilt;
    touch_all();
    out.set(0);
}

void page::audit() const noexcept {
    TARN_CHECK(out.get() >= 0);
    TARN_CHECK(capacity.get() <= reserved.get());
    if (has_states()) {
        TARN_CHECK(local == nullptr);
        int free_blocks = 0;
        for (int index = 0; index < capacity.get(); ++index) {
            bool const is_free = states.get()[index].load(std::memory_order_relaxed) <= state_zero;
            free_blocks += is_free && !is_unlisted(static_cast<std::size_t>(index)) ? 1 : 0;
        }
        TARN_CHECK(outside() + free_blocks + unlisted() >= capacity.get());
        return;
    }
    int length = 0;
    for (block const* at = local; at != nullptr && length <= capacity.get(); at = read_link(at)) {
        TARN_CHECK(pages.find(at) == this);
        TARN_CHECK(starts_block(at));
        TARN_CHECK(is_whole(at));
        ++length;
    }
    TARN_CHECK(outside() + length + unlisted() == capacity.get());
    TARN_CHECK(static_cast<int>(remote.load().count()) <= outside());
}

}  // namespace tarn::impl::heap
