// shm/chunk_set.hpp - chunk_set: the chunks of one pool: who takes them, holds them, gives them
// back, and how they are had back from the dead.
//
// Threads    any thread of any process; recover(p) while nobody but the caller may be client p
// Always     Whoever takes the last holder away looks at the hint afterwards, and sets it where it
//            is clear; whoever clears a hint looks at the truth afterwards. So a free chunk
//            without a hint is one on which a client stands between two steps, or died there.
//            Whatever lies in shared memory: no access beyond `count` chunks, no endless loop.
// Cost       allocate() and release() of a chunk that is used again and again: one atomic operation
//            each. recover(): two loads for each chunk.
// Source     docs/design/shm.md
#pragma once

#include <bit>
#include <cstdint>

#include "tarn/shm/hint_bitmap.hpp"

#include "shm/chunk_word.hpp"

namespace tarn::impl::shm {

struct claimed_chunk {
    static constexpr std::uint32_t none = UINT32_MAX;

    std::uint32_t number = none;
    generation now{};
};

enum class let_go : std::uint8_t {
    free,  // nobody holds it any more
    held,  // others do
    was_not_held
};

template <tarn::detail::atomic_policy Atomics>
class chunk_set {
public:
    using truth = chunk_word<Atomics>;
    using hint_words = tarn::shm::basic_hint_bitmap<Atomics>;

    /// `count`: those that have memory.
    chunk_set(truth* truths, typename hint_words::word* hints, std::uint32_t count) noexcept
        : truths_{truths}, hints_{hints, count}, count_{count} {}

    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

    /// Looks from the word of `start` on, around.
    claimed_chunk allocate(client_number me, std::uint32_t start) noexcept {
        claimed_chunk claimed;
        look(start, [&](std::uint32_t at, std::uint64_t candidates) noexcept {
            for (; candidates != 0; candidates &= candidates - 1) {
                std::uint32_t const number = number_of(at, candidates);
                if (try_take(me, number, claimed.now)) {
                    claimed.number = number;
                    return true;
                }
            }
            return false;
        });
        return claimed;
    }

    /// Up to `most` at once of one word: bit i of `taken` is the returned number + i.
    std::uint32_t take(client_number me, std::uint32_t start, unsigned most,
                       std::uint64_t& taken) noexcept {
        std::uint32_t first = 0;
        taken = 0;
        look(start, [&](std::uint32_t at, std::uint64_t candidates) noexcept {
            unsigned got = 0;
            first = at * hint_words::word_bits;
            for (; candidates != 0 && got < most; candidates &= candidates - 1) {
                generation now{};
                if (try_take(me, number_of(at, candidates), now)) {
                    taken |= candidates & (~candidates + 1);
                    ++got;
                }
            }
            return got != 0;
        });
        return first;
    }

    let_go release(client_number me, std::uint32_t number) noexcept {
        std::uint64_t const before = truths_[number].drop(me);
        if ((before & bit_of(me)) == 0) {
            return let_go::was_not_held;
        }
        if (holders_of(before & ~bit_of(me)) != 0) {
            return let_go::held;
        }
        hint_at(number);
        return let_go::free;
    }

    /// False: nobody held it, or it is another one by now.
    bool hold(client_number me, std::uint32_t number, generation expected) noexcept {
        return truths_[number].try_add(me, expected);
    }

    [[nodiscard]] std::uint64_t word_of(std::uint32_t number) const noexcept {
        return truths_[number].load();
    }

    [[nodiscard]] bool has_hint(std::uint32_t number) const noexcept { return hints_.has(number); }

    /// Takes back what `dead` held, and mends what it left between two steps. May be repeated, and
    /// cut short. The number of chunks it held.
    std::uint32_t recover(client_number dead) noexcept {
        std::uint32_t held = 0;
        for (std::uint32_t number = 0; number < count_; ++number) {
            std::uint64_t word = truths_[number].load();
            if ((word & bit_of(dead)) != 0) {
                word = truths_[number].drop(dead) & ~bit_of(dead);
                ++held;
            }
            if (holders_of(word) == 0) {
                hint_at(number);
            }
        }
        return held;
    }

private:
    static std::uint32_t number_of(std::uint32_t word, std::uint64_t candidates) noexcept {
        return word * hint_words::word_bits +
               static_cast<std::uint32_t>(std::countr_zero(candidates));
    }

    /// Calls `visit(word, hints in it)` until that returns true.
    template <class Visit>
    void look(std::uint32_t start, Visit visit) noexcept {
        std::uint32_t const words = hint_words::words_for(count_);
        std::uint32_t at = start / hint_words::word_bits;
        for (std::uint32_t looked = 0; looked < words; ++looked, ++at) {
            if (at >= words) {
                at = 0;
            }
            std::uint64_t const candidates = hints_.bits(at);
            if (candidates != 0 && visit(at, candidates)) {
                return;
            }
        }
    }

    bool try_take(client_number me, std::uint32_t number, generation& now) noexcept {
        if (truths_[number].try_claim(me, now)) {
            return true;
        }
        hints_.clear(number);
        if (holders_of(truths_[number].load()) != 0) {
            return false;
        }
        hints_.set(number);
        // Once more: who looked while the hint was clear may have gone to sleep. Where this fails,
        // too, another one has the chunk, and wakes them when it is through.
        return truths_[number].try_claim(me, now);
    }

    void hint_at(std::uint32_t number) noexcept {
        if (!hints_.has(number)) {
            hints_.set(number);
        }
    }

    truth* truths_;
    hint_words hints_;
    std::uint32_t count_;
};

}  // namespace tarn::impl::shm
