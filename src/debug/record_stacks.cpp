#include "debug/record_stacks.hpp"

#include <algorithm>

#include "platform/os.hpp"

namespace tarn::impl::debug {

using platform::os;

space::stack_id record_stack_table::note(base::node_index record, stack_use use,
                                         std::span<void const* const> frames) noexcept {
    std::size_t const number =
        2 * static_cast<std::size_t>(record) + (use == stack_use::released ? 1 : 0);
    if (frames.empty() || number / chunk_stacks >= chunks_max) {
        return space::stack_id::none;
    }
    std::atomic<frame_row*>& chunk = chunks_[number / chunk_stacks];
    // acquire, and release below: whoever finds the chunk finds it committed.
    frame_row* found = chunk.load(std::memory_order_acquire);
    if (found == nullptr) {
        auto* const fresh = static_cast<frame_row*>(os::reserve(chunk_bytes, {}));
        if (fresh == nullptr) {
            return space::stack_id::none;
        }
        bool const is_usable = os::commit(fresh, chunk_bytes);
        if (is_usable && chunk.compare_exchange_strong(found, fresh, std::memory_order_acq_rel,
                                                       std::memory_order_acquire)) {
            found = fresh;
            chunks_made_.fetch_add(1, std::memory_order_relaxed);
        } else {
            os::release(fresh, chunk_bytes);
            if (!is_usable) {
                return space::stack_id::none;
            }
        }
    }
    frame_row& to = found[number % chunk_stacks];
    std::size_t const count = std::min(frames.size(), frames_max);
    std::copy_n(frames.begin(), count, to.begin());
    if (count < frames_max) {
        to[count] = nullptr;
    }
    return static_cast<space::stack_id>(mark | static_cast<std::uint32_t>(number));
}

std::span<void const* const> record_stack_table::frames(space::stack_id stack) const noexcept {
    std::size_t const number = static_cast<std::uint32_t>(stack) & ~mark;
    if (!is_one(stack) || number / chunk_stacks >= chunks_max) {
        return {};
    }
    // acquire: pairs with the release in note()
    auto const* const found = chunks_[number / chunk_stacks].load(std::memory_order_acquire);
    if (found == nullptr) {
        return {};
    }
    auto const& frames = found[number % chunk_stacks];
    auto const end = std::find(frames.begin(), frames.end(), nullptr);
    return {frames.data(), static_cast<std::size_t>(end - frames.begin())};
}

}  // namespace tarn::impl::debug
