// tarn/shm/hint_bitmap.hpp - hint_bitmap: numbers that may be free, a bit each, in shared memory.
//
// Role       finds candidates. What really is free says a word of truth beside it: a bit that is
//            set in vain costs a look, and one that is missing is set again by who repairs. So it
//            is left as it is where that is not needed: a chunk that is taken and given back again
//            and again keeps its bit.
// Protocol   Who finds a number taken clears its bit, and then looks at the truth again: if it has
//            become free, the bit is set. Who frees a number looks at its bit afterwards, and sets
//            it where it is clear. Of the two, at least one sees what the other did: all four
//            accesses are seq_cst, the truth's, too.
// Threads    any thread of any process
// Always     No pointers: it is an array of words, wherever it lies. Whatever is in them, no number
//            beyond the count comes out.
// Cost       a load for 64 numbers; an atomic operation to set or clear one
// Source     docs/design/shm.md
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <tarn/detail/atomic_policy.hpp>

namespace tarn::shm {

template <tarn::detail::atomic_policy Atomics = tarn::detail::std_atomics>
class basic_hint_bitmap {
public:
    using word = typename Atomics::template atomic<std::uint64_t>;

    static constexpr std::uint32_t word_bits = 64;

    static constexpr std::uint32_t words_for(std::uint32_t count) noexcept {
        return count / word_bits + (count % word_bits != 0 ? 1 : 0);
    }

    /// `words`: words_for(count) of them.
    basic_hint_bitmap(word* words, std::uint32_t count) noexcept : words_{words}, count_{count} {}

    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

    /// The bits of a word: bit i stands for number `at` * 64 + i.
    [[nodiscard]] std::uint64_t bits(std::uint32_t at) const noexcept {
        // seq_cst: pairs with set(), so that who says that he waits, and looks again, sees it.
        return words_[at].load(std::memory_order_seq_cst) & valid(at);
    }

    [[nodiscard]] bool has(std::uint32_t number) const noexcept {
        return (words_[number / word_bits].load(std::memory_order_seq_cst) & bit(number)) != 0;
    }

    void set(std::uint32_t number) noexcept {
        words_[number / word_bits].fetch_or(bit(number), std::memory_order_seq_cst);
    }

    /// Where nobody else uses it yet.
    void set_all() noexcept {
        for (std::uint32_t at = 0; at < words_for(count_); ++at) {
            words_[at].store(valid(at), std::memory_order_relaxed);
        }
    }

    void clear(std::uint32_t number) noexcept {
        words_[number / word_bits].fetch_and(~bit(number), std::memory_order_seq_cst);
    }

private:
    /// Of the bits of a word, those that stand for numbers.
    [[nodiscard]] std::uint64_t valid(std::uint32_t at) const noexcept {
        std::uint32_t const left = count_ - at * word_bits;
        return left >= word_bits ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
    }

    static std::uint64_t bit(std::uint32_t number) noexcept {
        return std::uint64_t{1} << (number % word_bits);
    }

    word* words_;
    std::uint32_t count_;
};

using hint_bitmap = basic_hint_bitmap<>;

}  // namespace tarn::shm
