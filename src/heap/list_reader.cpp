#include "heap/list_reader.hpp"

#include <algorithm>

#include "base/bits.hpp"
#include "platform/os.hpp"
#include "heap/diversion.hpp"

namespace tarn::impl::heap {

using platform::os;

namespace {

// More than a list can hold; one that changes meanwhile may have no end.
constexpr std::uint32_t length_most = 1 << 16;

}  // namespace

list_reader::~list_reader() {
    if (window_ != nullptr) {
        os::release(window_, window_bytes);
    }
}

bool list_reader::measure(thread_heap const& of, list_lengths& to) noexcept {
    thread_heap::list_heads heads;
    if (os::read_memory(of.lists(), &heads, sizeof heads) != sizeof heads) {
        return false;
    }
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        block const* const first = heads[size_class].head;
        to[size_class] = (first == nullptr ? 0 : length_of(first, size_class, access::by_copy)) +
                         of.cached(size_class);
    }
    // Without memory for a window nothing could be read.
    return window_ != nullptr || std::all_of(heads.begin(), heads.end(),
                                             [](auto const& each) { return each.head == nullptr; });
}

void list_reader::measure_own(list_lengths& to) noexcept {
    thread_heap const& own = *own_heap();
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        to[size_class] =
            length_of(own.head(size_class), size_class, access::direct) + own.cached(size_class);
    }
}

std::uint32_t list_reader::length_of(block const* first, unsigned size_class, access how) noexcept {
    std::uint32_t length = 0;
    for (block const* at = first; at != nullptr && length < length_most; ++length) {
        // What is written there may be the program's by now.
        page const* const home = pages.find_interior(at);
        if (home == nullptr || home->kind.load(std::memory_order_relaxed) != page_kind::small ||
            home->block_bytes.get() != sizing::class_bytes(size_class)) {
            break;
        }
        block const* const copy = how == access::direct ? at : copy_of(at);
        if (copy == nullptr) {
            break;
        }
        at = read_link(copy, at);
    }
    return length;
}

block const* list_reader::copy_of(block const* original) noexcept {
    std::uintptr_t const at = base::address_of(original);
    auto const is_in_window = [this, at] {
        return at >= window_at_ && at + sizeof(block) <= window_at_ + window_filled_;
    };
    // Near the end of what is committed a whole window may not be there.
    if (at % alignof(block) != 0 ||
        (!is_in_window() && !(read_window(base::align_down(at, window_bytes)) && is_in_window()) &&
         !(read_window(base::align_down(at, platform::os_page_bytes_min)) && is_in_window()))) {
        return nullptr;
    }
    return reinterpret_cast<block const*>(window_ + (at - window_at_));
}

bool list_reader::read_window(std::uintptr_t from) noexcept {
    if (window_ == nullptr) {
        void* const fresh = os::reserve(window_bytes, {});
        if (fresh == nullptr) {
            return false;
        }
        if (!os::commit(fresh, window_bytes)) {
            os::release(fresh, window_bytes);
            return false;
        }
        window_ = static_cast<std::byte*>(fresh);
    }
    window_at_ = from;
    window_filled_ = os::read_memory(base::pointer_to(from), window_, window_bytes);
    return window_filled_ != 0;
}

}  // namespace tarn::impl::heap
