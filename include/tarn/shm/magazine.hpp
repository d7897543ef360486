// tarn/shm/magazine.hpp - magazine: one thread's own supply of a pool's chunks.
//
//     tarn::shm::magazine pictures{pools, *pools.pool_for(4096)};
//     for (;;) {
//         if (tarn::shm::magazine_loan picture = pictures.allocate()) {
//             ... picture.bytes() ...
//         }                                       // back in the magazine
//     }
//
// Role       Chunks that were taken in one go, and come back without a word to anybody.
// Threads    one, for the magazine and what it has lent
// Always     The segment says of each chunk in it, and of each that it lent, that this client holds
//            it: so none is lost when the process dies. Only a loan that nobody was told of comes
//            back to it: share() ends the loan, and the chunk goes its way.
//            It must end after its loans, and before the segment.
// Fork       the child's copy, and that of its loans, may only be destroyed: its chunks are the
//            parent's
// Errors     allocate(): an empty loan when the pool has nothing left; what becomes free later is
//            found by the next call
// Cost       allocate() and its end: a few instructions, none of them atomic, while it has chunks;
//            a call of the system's kind for each half of its capacity otherwise. Up to its
//            capacity of chunks lies idle in it
// Source     docs/design/shm.md, "Magazines"; J. Bonwick and J. Adams, USENIX 2001
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include <tarn/shm.h>
#include <tarn/shm/error.hpp>
#include <tarn/shm/loan.hpp>
#include <tarn/shm/pool_manager.hpp>

namespace tarn::shm {

class magazine_loan;

class magazine {
public:
    static constexpr std::uint32_t capacity_max = 64;

    /// Of pool `pool`; keeps at most `capacity` chunks, 1 to capacity_max. Takes none yet.
    magazine(pool_manager of, std::uint32_t pool, std::uint32_t capacity = 32) noexcept
        : client_{of.handle()},
          pool_{pool},
          capacity_{std::clamp<std::uint32_t>(capacity, 1, capacity_max)} {}

    magazine(magazine const&) = delete;
    magazine& operator=(magazine const&) = delete;

    ~magazine() { give_back(count_); }

    /// Empty: the pool has no chunk left.
    [[nodiscard]] inline magazine_loan allocate() noexcept;

    /// Chunks that lie in it.
    [[nodiscard]] std::uint32_t size() const noexcept { return count_; }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }

    /// Gives all that lie in it back to the pool.
    void clear() noexcept { give_back(count_); }

private:
    friend class magazine_loan;

    struct entry {
        std::uint64_t reference;
        std::byte* payload;
    };

    void put(entry one) noexcept {
        if (count_ == capacity_) [[unlikely]] {
            give_back((capacity_ + 1) / 2);
        }
        entries_[count_++] = one;
    }

    [[gnu::noinline, gnu::cold]] bool refill() noexcept {
        std::array<tarn_shm_chunk, capacity_max> some;
        std::uint32_t const most = (capacity_ + 1) / 2;
        std::uint32_t got = tarn_shm_take(client_, pool_, most, some.data());
        if (got == 0 && make_room()) {
            got = tarn_shm_take(client_, pool_, most, some.data());
        }
        for (std::uint32_t i = 0; i < got; ++i) {
            entries_[i] = {some[i].reference, static_cast<std::byte*>(some[i].payload)};
        }
        if (got != 0) {
            bytes_ = static_cast<std::size_t>(some[0].chunk_bytes);
            header_bytes_ =
                some[0].user_header == nullptr
                    ? 0
                    : static_cast<std::size_t>(static_cast<std::byte*>(some[0].payload) -
                                               static_cast<std::byte*>(some[0].user_header));
        }
        count_ = got;
        return got != 0;
    }

    /// What tarn_shm_take() does not do: looks for the dead, and has the pool grow. True: there was
    /// a chunk to be had.
    bool make_room() noexcept {
        if (alignment_ == 0) {
            tarn_shm_pool_info of;
            if (tarn_shm_pool_info_get(client_, pool_, &of) != TARN_SHM_OK) {
                return false;
            }
            bytes_ = static_cast<std::size_t>(of.chunk_bytes - of.user_header_bytes);
            alignment_ = of.alignment;
        }
        tarn_shm_chunk chunk;
        tarn_shm_asking const only_here{1, 0};
        bool const has_one =
            tarn_shm_allocate(client_, bytes_, alignment_, &only_here, &chunk) == TARN_SHM_OK;
        if (has_one) {
            static_cast<void>(tarn_shm_release(client_, chunk.reference));
        }
        return has_one;
    }

    /// Those that lie longest in it.
    [[gnu::noinline]] void give_back(std::uint32_t count) noexcept {
        std::array<std::uint64_t, capacity_max> some;
        for (std::uint32_t i = 0; i < count; ++i) {
            some[i] = entries_[i].reference;
        }
        if (count != 0) {
            tarn_shm_give(client_, some.data(), count);
        }
        std::copy(entries_.begin() + count, entries_.begin() + count_, entries_.begin());
        count_ -= count;
    }

    tarn_shm* client_;
    std::uint32_t pool_;
    std::uint32_t capacity_;
    std::uint32_t count_ = 0;
    std::uint32_t alignment_ = 0;   // of each payload; 0: not asked yet
    std::size_t bytes_ = 0;         // of each payload
    std::size_t header_bytes_ = 0;  // from a user's header to its payload; 0: there are none
    std::array<entry, capacity_max> entries_;
};

/// As loan, and goes back to its magazine.
class magazine_loan {
public:
    magazine_loan() noexcept = default;
    magazine_loan(magazine_loan const&) = delete;
    magazine_loan& operator=(magazine_loan const&) = delete;

    magazine_loan(magazine_loan&& other) noexcept
        : home_{std::exchange(other.home_, nullptr)}, entry_{other.entry_} {}

    magazine_loan& operator=(magazine_loan&& other) noexcept {
        if (this != &other) {
            release();
            home_ = std::exchange(other.home_, nullptr);
            entry_ = other.entry_;
        }
        return *this;
    }

    ~magazine_loan() { release(); }

    /// Back, now.
    void release() noexcept {
        if (home_ != nullptr) {
            std::exchange(home_, nullptr)->put(entry_);
        }
    }

    [[nodiscard]] bool has_value() const noexcept { return home_ != nullptr; }

    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

    /// All the room there is.
    [[nodiscard]] std::span<std::byte> bytes() const noexcept {
        return {entry_.payload, home_ != nullptr ? home_->bytes_ : 0};
    }

    /// Null: the pool has none, or less room for it.
    template <shareable T>
    [[nodiscard]] T* user_header() const noexcept {
        tarn_shm_chunk chunk{};
        chunk.payload = entry_.payload;
        chunk.user_header =
            home_->header_bytes_ == 0 ? nullptr : entry_.payload - home_->header_bytes_;
        return detail::user_header_of<T>(chunk);
    }

    /// As loan::share(); others are told of a payload of `bytes`, at most all the room.
    [[nodiscard]] result<held> share(std::size_t bytes) && noexcept {
        if (home_ == nullptr) {
            return errc::not_held;
        }
        if (bytes > home_->bytes_) {
            return errc::invalid;
        }
        tarn_shm* const client = home_->client_;
        tarn_shm_chunk chunk;
        int code = tarn_shm_share(client, entry_.reference, bytes);
        if (code == TARN_SHM_OK) {
            home_ = nullptr;  // the chunk does not come back to it
            code = tarn_shm_describe(client, entry_.reference, &chunk);
        }
        if (code != TARN_SHM_OK) {
            return static_cast<errc>(code);
        }
        return held{client, chunk};
    }

private:
    friend class magazine;

    magazine_loan(magazine* home, magazine::entry one) noexcept : home_{home}, entry_{one} {}

    magazine* home_ = nullptr;
    magazine::entry entry_{};
};

inline magazine_loan magazine::allocate() noexcept {
    if (count_ == 0) [[unlikely]] {
        if (!refill()) {
            return {};
        }
    }
    return {this, entries_[--count_]};
}

}  // namespace tarn::shm
