// tarn/detail/lock_free_blocks.hpp - lock_free_blocks: equal blocks for many threads.
//
// Threads    any, without a lock, but for new chunks and what pools=plain does. A magazine is its
//            holder's. clear(), for_each() and the end: alone, but for threads that end meanwhile.
// Always     A thread takes and frees blocks in its magazine; what is too much or too little there
//            goes to and comes from a stack of chains, a few dozen blocks each. The stack links
//            chains by numbers, in memory that stays links until clear() or the end: so no stale
//            read touches a block of the program's, or memory that went back.
//            A free block holds the next of its chain, and a key of its own place; an allocated
//            one does not have the key unless the program writes it.
//            Without a magazine, blocks pass through the stack one by one: where a bound is to be
//            exact, all of it is in everybody's reach then.
// Cost       with a magazine: no atomic read-modify-write, but one for each few dozen calls. A
//            block costs 4 bytes more, and at least 16.
// Source     docs/design/lockfree.md
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

#include <tarn/detail/atomic_policy.hpp>
#include <tarn/detail/block_store.hpp>
#include <tarn/detail/lock_free_chunks.hpp>
#include <tarn/detail/magazine.hpp>
#include <tarn/detail/tagged_stack.hpp>
#include <tarn/tarn.h>

namespace tarn::detail {

template <atomic_policy Atomics, class Mutex>
class lock_free_blocks {
public:
    using magazine = detail::magazine<Atomics>;

    /// `magazines`: where these come from; lives longer than any thread.
    lock_free_blocks(block_shape shape, std::uint64_t blocks_most, std::uint64_t serial,
                     std::pmr::memory_resource* upstream, std::pmr::memory_resource* magazines)
        : chunks_{rounded(shape), std::max(shape.alignment, sizeof(free_block)), blocks_most,
                  upstream},
          serial_{serial},
          key_{serial * 0x9e37'79b9'7f4a'7c15},
          batch_{static_cast<std::uint32_t>(
              std::clamp<std::size_t>(batch_bytes / rounded(shape), 1, magazine_blocks_most / 2))},
          magazines_home_{magazines} {}

    lock_free_blocks(lock_free_blocks const&) = delete;
    lock_free_blocks& operator=(lock_free_blocks const&) = delete;

    ~lock_free_blocks() {
        magazine* next = magazines_.load(std::memory_order_acquire);
        while (next != nullptr) {
            magazine& each = *next;
            next = each.next_of_pool;
            magazine::close(each);
        }
    }

    /// A magazine for the calling thread, until it leaves it. Null: out of memory.
    [[nodiscard]] magazine* join() noexcept;

    /// Null: the bound is met. std::bad_alloc of the upstream's passes through.
    [[nodiscard]] void* allocate(magazine& mine) {
        std::uint32_t left = mine.count.load(std::memory_order_relaxed);
        if (left == 0) [[unlikely]] {
            left = refill(mine);
            if (left == 0) {
                return nullptr;
            }
        }
        mine.count.store(left - 1, std::memory_order_relaxed);
        return hand_out(mine.blocks[left - 1]);
    }

    /// `block`: judge() found it fine, and nothing has happened to it since.
    void release(magazine& mine, void* block) noexcept {
        std::uint32_t count = mine.count.load(std::memory_order_relaxed);
        if (count == 2 * batch_) [[unlikely]] {
            count = shed(mine);
        }
        mark(block, nullptr);
        mine.blocks[count] = block;
        mine.count.store(count + 1, std::memory_order_relaxed);
    }

    /// The same without a magazine.
    [[nodiscard]] void* allocate();
    void release(void* block) noexcept;

    /// Looks at a pointer that may be any.
    [[nodiscard]] block_verdict judge(magazine& mine, void const* ptr) const noexcept {
        std::size_t offset = address(ptr) - mine.near_begin;
        if (offset >= mine.near_bytes) [[unlikely]] {
            auto const home = chunks_.find(ptr, made_.load(std::memory_order_relaxed));
            if (home.bytes == 0) {
                return block_verdict::foreign;
            }
            mine.near_begin = home.begin;
            mine.near_bytes = home.bytes;
            offset = address(ptr) - home.begin;
        }
        return judge_at(ptr, offset);
    }

    [[nodiscard]] block_verdict judge(void const* ptr) const noexcept {
        auto const home = chunks_.find(ptr, made_.load(std::memory_order_relaxed));
        return home.bytes == 0 ? block_verdict::foreign : judge_at(ptr, address(ptr) - home.begin);
    }

    /// Allocated blocks; while others allocate and free, about so many. Cost: O(magazines).
    [[nodiscard]] std::size_t live() const noexcept;

    /// From the upstream.
    [[nodiscard]] std::size_t held_bytes() const noexcept { return chunks_.held_bytes(); }

    /// Gives all blocks back at once.
    void clear() noexcept;

    /// Calls visit(void*) for each allocated block.
    template <class Visit>
    void for_each(Visit visit) const {
        chunks_.for_each(made_.load(std::memory_order_relaxed), [this, &visit](void* block) {
            if (key_in(block) != key_of(block)) {
                visit(block);
            }
        });
    }

    [[nodiscard]] std::uint64_t serial() const noexcept { return serial_; }

    /// From here on growth and clear() say there what is held; null: nowhere.
    void tell(tarn_owner* owner) noexcept {
        std::lock_guard const guard{grows_};
        owner_ = owner;
        told_bytes_ = 0;
        tell_owner();
    }

private:
    static constexpr std::size_t batch_bytes = std::size_t{16} * 1024;
    static constexpr std::size_t line_bytes = 64;

    struct free_block {
        free_block* next;  // in its chain
        std::uintptr_t key;
    };

    using chains = tagged_stack<Atomics, block_number, 32>;

    static std::size_t rounded(block_shape shape) {
        constexpr std::size_t most = std::size_t{1} << 46;
        if (shape.bytes > most || shape.alignment > most) {
            throw std::bad_array_new_length{};
        }
        std::size_t const to = std::max(shape.alignment, sizeof(free_block));
        return (std::max<std::size_t>(shape.bytes, 1) + to - 1) & ~(to - 1);
    }

    static std::uintptr_t address(void const* ptr) noexcept {
        return reinterpret_cast<std::uintptr_t>(ptr);
    }

    [[nodiscard]] std::uintptr_t key_of(void const* block) const noexcept {
        return (key_ ^ address(block)) | 1;
    }

    /// What an allocated block has there is the program's, of whatever type.
    static std::uintptr_t key_in(void const* block) noexcept {
        std::uintptr_t key = 0;
        std::memcpy(&key, static_cast<std::byte const*>(block) + offsetof(free_block, key),
                    sizeof(key));
        return key;
    }

    void mark(void* block, void* next) const noexcept {
        ::new (block) free_block{static_cast<free_block*>(next), key_of(block)};
    }

    static void* hand_out(void* block) noexcept {
        // volatile: else the compiler may drop it, since a constructor follows that gives the bytes
        // a new meaning without writing all of them.
        static_cast<free_block volatile*>(block)->key = 0;
        return block;
    }

    [[nodiscard]] block_verdict judge_at(void const* ptr, std::size_t offset) const noexcept {
        if (!chunks_.is_start(offset)) [[unlikely]] {
            return block_verdict::misaligned;
        }
        return key_in(ptr) == key_of(ptr) ? block_verdict::returned_twice : block_verdict::fine;
    }

    [[nodiscard]] auto link_of() noexcept {
        return [this](block_number number) ->
               typename lock_free_chunks<Atomics>::link& { return chunks_.link_of(number); };
    }

    [[nodiscard]] free_block* pop_chain() noexcept {
        block_number const first = chains_.pop(link_of());
        return first == block_number::none ? nullptr
                                           : static_cast<free_block*>(chunks_.block_of(first));
    }

    void push_chain(void* first) noexcept { chains_.push(chunks_.number_of(first), link_of()); }

    [[nodiscard]] std::uint32_t refill(magazine& mine);
    [[nodiscard]] std::uint32_t shed(magazine& mine) noexcept;
    [[nodiscard]] std::uint32_t take_left(void** to, std::uint32_t most) noexcept;
    [[nodiscard]] std::uint32_t make(void** to, std::uint32_t most);
    void grow(unsigned chunk);

    /// By whoever holds grows_, or is alone.
    void tell_owner() noexcept {
        if (owner_ != nullptr) {
            std::size_t const now = held_bytes();
            auto const change = static_cast<std::int64_t>(now - std::exchange(told_bytes_, now));
            tarn_owner_add(owner_, change, change);
        }
    }

    lock_free_chunks<Atomics> chunks_;
    std::uint64_t serial_;
    std::uintptr_t key_;
    std::uint32_t batch_;  // blocks of a chain that a magazine parts with
    std::pmr::memory_resource* magazines_home_;
    Mutex grows_;
    tarn_owner* owner_ = nullptr;
    std::size_t told_bytes_ = 0;
    typename Atomics::template atomic<magazine*> magazines_{nullptr};  // linked by next_of_pool
    alignas(line_bytes) chains chains_;
    typename Atomics::template atomic<std::uint64_t> chained_{0};  // blocks in chains_
    alignas(line_bytes) typename Atomics::template atomic<std::uint64_t> made_{0};
};

template <atomic_policy Atomics, class Mutex>
auto lock_free_blocks<Atomics, Mutex>::join() noexcept -> magazine* {
    // acquire: pairs with the release below.
    magazine* newest = magazines_.load(std::memory_order_acquire);
    for (magazine* each = newest; each != nullptr; each = each->next_of_pool) {
        if (each->is_left() && each->try_take()) {
            return each;
        }
    }
    magazine* fresh = nullptr;
    try {
        fresh = ::new (magazines_home_->allocate(sizeof(magazine), alignof(magazine))) magazine;
    } catch (...) {
        return nullptr;
    }
    fresh->pool = serial_;
    fresh->home = magazines_home_;
    do {
        fresh->next_of_pool = newest;
        // release: publishes the magazine. Nothing leaves this list, hence no ABA.
    } while (!magazines_.compare_exchange_weak(newest, fresh, std::memory_order_release,
                                               std::memory_order_acquire));
    return fresh;
}

/// Fills an empty magazine: from the stack, else from magazines that nobody holds, else with new
/// blocks. Returns how many it has.
template <atomic_policy Atomics, class Mutex>
[[gnu::noinline]] std::uint32_t lock_free_blocks<Atomics, Mutex>::refill(magazine& mine) {
    std::uint32_t count = 0;
    if (free_block* chain = pop_chain(); chain != nullptr) {
        for (; chain != nullptr; chain = chain->next) {
            mine.blocks[count++] = chain;
        }
        chained_.fetch_sub(count, std::memory_order_relaxed);
    } else {
        count = take_left(mine.blocks, magazine_blocks_most);
    }
    if (count == 0) {
        count = make(mine.blocks, batch_);
        for (std::uint32_t i = 0; i < count; ++i) {
            mark(mine.blocks[i], nullptr);
        }
        std::reverse(mine.blocks, mine.blocks + count);  // the lowest first
    }
    mine.count.store(count, std::memory_order_relaxed);
    return count;
}

/// Parts with the older half of a full magazine. Returns how many it has left.
template <atomic_policy Atomics, class Mutex>
[[gnu::noinline]] std::uint32_t lock_free_blocks<Atomics, Mutex>::shed(magazine& mine) noexcept {
    for (std::uint32_t i = 0; i < batch_; ++i) {
        mark(mine.blocks[i], i + 1 < batch_ ? mine.blocks[i + 1] : nullptr);
    }
    // Counted before they can be taken: never less than what is there.
    chained_.fetch_add(batch_, std::memory_order_relaxed);
    push_chain(mine.blocks[0]);
    std::copy(mine.blocks + batch_, mine.blocks + 2 * std::size_t{batch_}, mine.blocks);
    return batch_;
}

/// Moves the blocks of magazines that nobody holds; stops when it has some.
template <atomic_policy Atomics, class Mutex>
std::uint32_t lock_free_blocks<Atomics, Mutex>::take_left(void** to, std::uint32_t most) noexcept {
    std::uint32_t taken = 0;
    for (magazine* each = magazines_.load(std::memory_order_acquire); each != nullptr && taken == 0;
         each = each->next_of_pool) {
        if (each->is_left() && each->count.load(std::memory_order_relaxed) != 0 &&
            each->try_take()) {
            std::uint32_t const count = each->count.load(std::memory_order_relaxed);
            taken = std::min(count, most);
            std::copy(each->blocks + (count - taken), each->blocks + count, to);
            each->count.store(count - taken, std::memory_order_relaxed);
            each->put_back();
        }
    }
    return taken;
}

/// Blocks that were never used, in rising order: at most so many. Returns how many; 0: the bound.
template <atomic_policy Atomics, class Mutex>
std::uint32_t lock_free_blocks<Atomics, Mutex>::make(void** to, std::uint32_t most) {
    std::uint64_t made = made_.load(std::memory_order_relaxed);
    for (;;) {
        if (made >= chunks_.blocks_most()) {
            return 0;
        }
        auto at = chunks_.place_of(made);
        if (!chunks_.has(at.chunk)) {
            grow(at.chunk);
        }
        auto const count = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(most, chunks_.room(at.chunk) - at.slot));
        // relaxed: who is handed a block learns of it by what orders the hand-over.
        if (made_.compare_exchange_weak(made, made + count, std::memory_order_relaxed,
                                        std::memory_order_relaxed)) {
            for (std::uint32_t i = 0; i < count; ++i, ++at.slot) {
                to[i] = chunks_.make(at);
            }
            return count;
        }
    }
}

template <atomic_policy Atomics, class Mutex>
void lock_free_blocks<Atomics, Mutex>::grow(unsigned chunk) {
    std::lock_guard const guard{grows_};
    if (!chunks_.has(chunk)) {
        chunks_.grow(chunk);
        tell_owner();
    }
}

template <atomic_policy Atomics, class Mutex>
void* lock_free_blocks<Atomics, Mutex>::allocate() {
    void* block = nullptr;
    if (free_block* const chain = pop_chain(); chain != nullptr) {
        if (chain->next != nullptr) {
            push_chain(chain->next);
        }
        chained_.fetch_sub(1, std::memory_order_relaxed);
        return hand_out(chain);
    }
    if (take_left(&block, 1) == 0 && make(&block, 1) == 0) {
        return nullptr;
    }
    return hand_out(block);
}

template <atomic_policy Atomics, class Mutex>
void lock_free_blocks<Atomics, Mutex>::release(void* block) noexcept {
    mark(block, nullptr);
    chained_.fetch_add(1, std::memory_order_relaxed);
    push_chain(block);
}

template <atomic_policy Atomics, class Mutex>
std::size_t lock_free_blocks<Atomics, Mutex>::live() const noexcept {
    std::uint64_t free = chained_.load(std::memory_order_relaxed);
    for (magazine const* each = magazines_.load(std::memory_order_acquire); each != nullptr;
         each = each->next_of_pool) {
        free += each->count.load(std::memory_order_relaxed);
    }
    std::uint64_t const made = made_.load(std::memory_order_relaxed);
    return made > free ? made - free : 0;
}

template <atomic_policy Atomics, class Mutex>
void lock_free_blocks<Atomics, Mutex>::clear() noexcept {
    for (magazine* each = magazines_.load(std::memory_order_acquire); each != nullptr;
         each = each->next_of_pool) {
        each->count.store(0, std::memory_order_relaxed);
        each->near_bytes = 0;
    }
    chains_.forget();
    chained_.store(0, std::memory_order_relaxed);
    made_.store(0, std::memory_order_relaxed);
    chunks_.clear();
    tell_owner();
}

}  // namespace tarn::detail
