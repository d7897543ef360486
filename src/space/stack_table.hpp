// space/stack_table.hpp - stack_table<Os>: each distinct call stack once, under a short number.
//
// Threads    any thread: all functions; no lock, so also in a signal handler, and in a child that
//            was forked at any instruction of another thread's intern(): what that had begun is
//            then room that nobody uses
// Always     a number stands for the same frames for ever; nothing is moved or returned. Two
//            threads that bring the same new stack at once get one number, and leave the room of a
//            second copy unused.
// Cost       a known stack: its hash, some 3 cache lines, a comparison; no write. A new one: 8
//            bytes a frame and some 60 more; a system call per commit_bytes. Empty: 100 KiB of zero
//            pages, touched as used.
// Source     docs/design/stacks.md. The index is a trie of hash bits, inserted into by
//            compare-exchange: after Prokopec's Ctrie (2012), without removal.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/attributes.hpp"
#include "base/bits.hpp"
#include "base/units.hpp"
#include "platform/os_memory.hpp"

namespace tarn::impl::space {

enum class stack_id : std::uint32_t { none = 0 };

struct stack_hash {
    std::uint64_t operator()(std::span<void const* const> frames) const noexcept {
        constexpr std::uint64_t odd = 0x9e37'79b9'7f4a'7c15;  // 2^64 divided by the golden ratio
        std::uint64_t hash = frames.size();
        for (void const* const each : frames) {
            hash = (hash ^ base::address_of(each)) * odd;
            hash ^= hash >> 32;
        }
        return hash * odd;
    }
};

template <class Os, class Hash = stack_hash>
class stack_table {
public:
    /// Of longer stacks the innermost so many are kept.
    static constexpr std::size_t frames_max = 1024;

    /// The stack's number. None: it is empty, or there is no memory for it; nothing else is lost
    /// then, and it may be tried again.
    stack_id intern(std::span<void const* const> frames) noexcept {
        frames = frames.first(std::min(frames.size(), frames_max));
        if (frames.empty()) {
            return stack_id::none;
        }
        std::uint64_t const hash = Hash{}(frames);
        cell* at = &root_[hash % root_.size()];
        // Past the last bits of the hash there are no more nodes: stacks that share all are a list.
        for (unsigned shift = root_bits;;) {
            // acquire: pairs with the releases in insert(); what a cell names is complete.
            std::uint32_t const found = at->load(std::memory_order_acquire);
            if (is_node(found)) {
                at = &cell_of(node_at(found), hash, shift);
                shift += node_bits;
                continue;
            }
            if (found == 0) {
                return insert(frames, hash, *at, shift);
            }
            record& other = record_of(found);
            if (other.hash != hash) {
                return insert(frames, hash, *at, shift);
            }
            if (other.is_equal(frames)) {
                return static_cast<stack_id>(found);
            }
            at = &other.next;
        }
    }

    /// Innermost first; empty for a number that was never handed out.
    [[nodiscard]] std::span<void const* const> frames(stack_id id) const noexcept {
        auto const number = static_cast<std::uint32_t>(id);
        if (number == 0 || number >= ids_max) {
            return {};
        }
        // acquire, both: pair with the releases in new_id() and write().
        std::uint32_t const block = blocks_[number / block_ids].load(std::memory_order_acquire);
        if (block == 0) {
            return {};
        }
        std::uint32_t const place = id_cell(block, number).load(std::memory_order_acquire);
        if (place == 0) {
            return {};
        }
        auto const& stack = *static_cast<record const*>(word_at(place));
        return {stack.frames(), stack.count};
    }

    /// How many stacks there are.
    [[nodiscard]] std::size_t count() const noexcept {
        return count_.load(std::memory_order_relaxed);
    }

    [[nodiscard]] std::size_t committed_bytes() const noexcept {
        return committed_bytes_.load(std::memory_order_relaxed);
    }

    [[nodiscard]] std::size_t reserved_bytes() const noexcept {
        return base::align_up(committed_bytes(), chunk_bytes);
    }

private:
    // Memory is taken in words, from chunks, and never given back. A place is a word's number.
    static constexpr std::size_t word_bytes = 8;
    static constexpr std::size_t chunk_bytes = 4 * MiB;
    static constexpr std::size_t commit_bytes = 64 * KiB;
    static constexpr std::size_t chunk_words = chunk_bytes / word_bytes;
    static constexpr std::size_t chunks_max = 1024;

    // Numbers lead to places, by blocks of cells.
    static constexpr std::size_t block_ids = 4096;
    static constexpr std::size_t ids_max = std::size_t{1} << 26;

    // A cell of the trie holds 0, a stack's number, or with this bit the place of a node.
    static constexpr std::uint32_t node_bit = std::uint32_t{1} << 31;
    static_assert(ids_max <= node_bit && chunk_words * chunks_max <= node_bit);

    using cell = std::atomic<std::uint32_t>;
    static constexpr unsigned root_bits = 12;
    static constexpr unsigned node_bits = 4;
    using node = std::array<cell, std::size_t{1} << node_bits>;
    static_assert((64 - root_bits) % node_bits == 0);  // different hashes part at the last node

    struct record {
        std::uint64_t hash;
        cell next;  // another stack of the same hash
        std::uint32_t count;

        [[nodiscard]] void const** frames() noexcept {
            return reinterpret_cast<void const**>(this + 1);
        }

        [[nodiscard]] void const* const* frames() const noexcept {
            return reinterpret_cast<void const* const*>(this + 1);
        }

        [[nodiscard]] bool is_equal(std::span<void const* const> to) const noexcept {
            return std::equal(to.begin(), to.end(), frames(), frames() + count);
        }
    };

    static_assert(sizeof(record) % word_bytes == 0 && sizeof(void*) == word_bytes);

    struct chunk {
        std::atomic<std::byte*> base{nullptr};
        std::atomic<std::size_t> committed{0};  // bytes
    };

    static bool is_node(std::uint32_t value) noexcept { return (value & node_bit) != 0; }

    static cell& cell_of(node& in, std::uint64_t hash, unsigned shift) noexcept {
        return in[hash >> shift & (in.size() - 1)];
    }

    [[nodiscard]] void* word_at(std::size_t place) const noexcept {
        // acquire: pairs with the release in back()
        return chunks_[place / chunk_words].base.load(std::memory_order_acquire) +
               place % chunk_words * word_bytes;
    }

    [[nodiscard]] node& node_at(std::uint32_t value) const noexcept {
        return *static_cast<node*>(word_at(value & ~node_bit));
    }

    [[nodiscard]] cell& id_cell(std::uint32_t block, std::uint32_t number) const noexcept {
        return static_cast<cell*>(word_at(block))[number % block_ids];
    }

    /// Of a number that was found in the trie.
    [[nodiscard]] record& record_of(std::uint32_t number) const noexcept {
        // relaxed, both: the acquire of the cell with the number made them visible
        std::uint32_t const block = blocks_[number / block_ids].load(std::memory_order_relaxed);
        std::uint32_t const place = id_cell(block, number).load(std::memory_order_relaxed);
        return *static_cast<record*>(word_at(place));
    }

    /// Goes on where intern() found no equal stack.
    TARN_COLD stack_id insert(std::span<void const* const> frames, std::uint64_t hash, cell& from,
                              unsigned shift) noexcept {
        cell* at = &from;
        std::uint32_t fresh = 0;  // our copy, when it is written
        std::uint32_t spare = 0;  // a node that another thread's was faster than
        // Each round either goes deeper, or changes the cell, or another thread changed it.
        for (;;) {
            std::uint32_t found = at->load(std::memory_order_acquire);  // as in intern()
            if (is_node(found)) {
                at = &cell_of(node_at(found), hash, shift);
                shift += node_bits;
                continue;
            }
            if (found == 0) {
                fresh = fresh == 0 ? write(frames, hash) : fresh;
                // release: pairs with the acquires of cells; so below.
                if (fresh == 0 ||
                    at->compare_exchange_strong(found, fresh, std::memory_order_release,
                                                std::memory_order_relaxed)) {
                    count_.fetch_add(fresh == 0 ? 0 : 1, std::memory_order_relaxed);
                    return static_cast<stack_id>(fresh);
                }
                continue;
            }
            record& other = record_of(found);
            if (other.hash == hash) {
                if (other.is_equal(frames)) {
                    forget(fresh);
                    return static_cast<stack_id>(found);
                }
                at = &other.next;
                continue;
            }
            spare = spare == 0 ? take(sizeof(node) / word_bytes) : spare;
            if (spare == 0) {
                forget(fresh);
                return stack_id::none;
            }
            cell& place = cell_of(node_at(spare), other.hash, shift);
            place.store(found, std::memory_order_relaxed);
            if (at->compare_exchange_strong(found, spare | node_bit, std::memory_order_release,
                                            std::memory_order_relaxed)) {
                spare = 0;
            } else {
                place.store(0, std::memory_order_relaxed);
            }
        }
    }

    /// Writes a stack down, which nobody finds yet. 0: out of memory.
    std::uint32_t write(std::span<void const* const> frames, std::uint64_t hash) noexcept {
        std::uint32_t const id = new_id();
        if (id == 0) {
            return 0;
        }
        std::uint32_t const place = take(sizeof(record) / word_bytes + frames.size());
        if (place == 0) {
            std::uint32_t last = id;  // taken back, if it is still the last one
            last_id_.compare_exchange_strong(last, id - 1, std::memory_order_relaxed);
            return 0;
        }
        auto& stack = *static_cast<record*>(word_at(place));
        stack.hash = hash;
        stack.count = static_cast<std::uint32_t>(frames.size());
        std::copy(frames.begin(), frames.end(), stack.frames());
        // release: pairs with the acquire in frames()
        id_cell(blocks_[id / block_ids].load(std::memory_order_relaxed), id)
            .store(place, std::memory_order_release);
        return id;
    }

    /// Takes back what write() returned, or 0.
    void forget(std::uint32_t id) noexcept {
        if (id != 0) {
            id_cell(blocks_[id / block_ids].load(std::memory_order_relaxed), id)
                .store(0, std::memory_order_relaxed);
        }
    }

    /// A number that nobody has, and a cell for it.
    std::uint32_t new_id() noexcept {
        std::uint32_t last = last_id_.load(std::memory_order_relaxed);
        for (;;) {
            std::uint32_t const id = last + 1;
            if (id >= ids_max) {
                return 0;
            }
            cell& block = blocks_[id / block_ids];
            if (block.load(std::memory_order_relaxed) == 0) {
                std::uint32_t const place = take(block_ids * sizeof(cell) / word_bytes);
                std::uint32_t none = 0;
                // release: pairs with the acquire in frames()
                if (place == 0) {
                    return 0;
                }
                // Where another thread was faster its block serves, and this one is unused.
                block.compare_exchange_strong(none, place, std::memory_order_release,
                                              std::memory_order_relaxed);
            }
            if (last_id_.compare_exchange_weak(last, id, std::memory_order_relaxed)) {
                return id;
            }
        }
    }

    /// The place of so many zero words, next to each other; 0: out of memory.
    std::uint32_t take(std::size_t words) noexcept {
        std::size_t used = used_.load(std::memory_order_relaxed);
        for (;;) {
            std::size_t start = std::max<std::size_t>(used, 1);  // 0 is no place
            if (start % chunk_words + words > chunk_words) {
                start = base::align_up(start, chunk_words);
            }
            std::size_t const number = start / chunk_words;
            if (number >= chunks_max ||
                !back(chunks_[number], (start % chunk_words + words) * word_bytes)) {
                return 0;
            }
            // relaxed: who learns of the place learns it from a cell
            if (used_.compare_exchange_weak(used, start + words, std::memory_order_relaxed)) {
                return static_cast<std::uint32_t>(start);
            }
        }
    }

    /// Makes the first bytes of a chunk usable. Two threads may do the same step: it is counted
    /// once.
    static bool reserve_chunk(chunk& it) noexcept {
        void* const fresh = Os::reserve(chunk_bytes, {});
        std::byte* none = nullptr;
        // release: pairs with the acquires of `base`
        if (fresh != nullptr && !it.base.compare_exchange_strong(
                                    none, static_cast<std::byte*>(fresh), std::memory_order_release,
                                    std::memory_order_relaxed)) {
            Os::release(fresh, chunk_bytes);
        }
        return fresh != nullptr;
    }

    /// Makes the first bytes of a chunk usable. Two threads may do the same step: it counts once.
    bool back(chunk& it, std::size_t bytes) noexcept {
        if (it.base.load(std::memory_order_acquire) == nullptr && !reserve_chunk(it)) {
            return false;
        }
        std::byte* const base = it.base.load(std::memory_order_acquire);
        std::size_t committed = it.committed.load(std::memory_order_relaxed);
        while (committed < bytes) {
            if (!Os::commit(base + committed, commit_bytes)) {
                return false;
            }
            // relaxed: it says what the system did already
            if (it.committed.compare_exchange_strong(committed, committed + commit_bytes,
                                                     std::memory_order_relaxed)) {
                committed_bytes_.fetch_add(commit_bytes, std::memory_order_relaxed);
                committed += commit_bytes;
            }
        }
        return true;
    }

    std::array<cell, std::size_t{1} << root_bits> root_{};
    std::array<cell, ids_max / block_ids> blocks_{};
    std::array<chunk, chunks_max> chunks_{};
    std::atomic<std::size_t> used_{0};  // words
    std::atomic<std::uint32_t> last_id_{0};
    std::atomic<std::size_t> count_{0};
    std::atomic<std::size_t> committed_bytes_{0};
};

}  // namespace tarn::impl::space
