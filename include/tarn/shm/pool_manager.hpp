// tarn/shm/pool_manager.hpp - pool_manager: chunks of a segment's pools, by size.
//
//     tarn::shm::pool_manager const pools{camera};
//     if (tarn::shm::result<tarn::shm::loan> picture = pools.allocate(200)) {
//         std::memcpy(picture->bytes().data(), pixels, 200);
//         tarn::shm::held const sent = std::move(*picture).share().value();
//         send(sent.reference().value());          // they: pools.hold(reference)
//     }
//
// Role       A view of a segment, to be copied at will; valid as long as the segment is attached.
// Threads    any
// Always     allocate() takes from the smallest pool that does, with one atomic operation where it
//            has chunks; where it has none, tarn_shm_allocate() decides: the dead are looked for,
//            the pool grows, larger pools help out, others' releases are waited for.
// Fork       errc::forked in the child
// Errors     values: exhausted, too_large, stale, invalid, read_only, forked
// Cost       allocate() and the loan's end: an atomic operation each
// Source     docs/shm.md, docs/design/shm.md
#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <tarn/shm.h>
#include <tarn/shm/error.hpp>
#include <tarn/shm/loan.hpp>
#include <tarn/shm/segment.hpp>

namespace tarn::shm {

/// What to do when the smallest pool that fits is empty.
struct asking {
    static constexpr std::chrono::milliseconds for_ever = std::chrono::milliseconds::max();

    std::uint32_t larger_most = 4;      // other pools' chunks serve up to so many times the size
    std::chrono::milliseconds wait{0};  // for others to release

    [[nodiscard]] constexpr tarn_shm_asking raw() const noexcept {
        constexpr std::int64_t most = TARN_SHM_WAIT_FOR_EVER - std::int64_t{1};
        return {larger_most, wait == for_ever ? TARN_SHM_WAIT_FOR_EVER
                                              : static_cast<std::uint32_t>(std::clamp<std::int64_t>(
                                                    wait.count(), 0, most))};
    }
};

/// A client, and its number.
struct client_info {
    std::uint32_t number = 0;
    tarn_shm_client_info about{};
};

class pool_manager {
public:
    explicit pool_manager(segment const& of) noexcept : client_{of.handle()} {}

    /// For who uses the C interface, too. Not null.
    explicit pool_manager(tarn_shm* client) noexcept : client_{client} {}

    /// A chunk of at least `bytes`, aligned to `alignment`: 0, 64, or a power of two that a pool
    /// has.
    [[nodiscard]] result<loan> allocate(std::size_t bytes, std::uint32_t alignment = 0,
                                        asking const& how = {}) const noexcept {
        tarn_shm_chunk chunk;
        if (alignment == 0 || std::has_single_bit(alignment)) {
            if (tarn_shm_take(client_, tarn_shm_pool_for(client_, bytes, alignment), 1, &chunk) ==
                1) [[likely]] {
                chunk.payload_bytes = bytes;
                return loan{client_, chunk, loan::kind::exclusive};
            }
        }
        return allocate_slow(bytes, alignment, how);
    }

    /// A chunk with a T at its beginning.
    template <shareable T, class... Arguments>
    [[nodiscard]] result<loan_of<T>> make(Arguments&&... arguments) const
        noexcept(std::is_nothrow_constructible_v<T, Arguments...>) {
        result<loan> chunk = allocate(sizeof(T), alignof(T));
        if (!chunk) {
            return chunk.error();
        }
        return loan_of<T>::make(*std::move(chunk), std::forward<Arguments>(arguments)...);
    }

    /// A chunk that another client has shared, or this one. errc::stale: nobody holds it any more.
    /// errc::invalid: it is of no chunk of this segment.
    [[nodiscard]] result<held> hold(reference of) const noexcept {
        tarn_shm_chunk chunk;
        int const code = tarn_shm_hold(client_, of.value(), &chunk);
        if (code != TARN_SHM_OK) {
            return static_cast<errc>(code);
        }
        return held{client_, chunk};
    }

    template <shareable T>
    [[nodiscard]] result<held_of<T>> hold_as(reference of) const noexcept {
        result<held> chunk = hold(of);
        if (!chunk) {
            return chunk.error();
        }
        return held_of<T>::of(*std::move(chunk));
    }

    /// Goes on with what held::disown() left. errc::not_held: this client does not hold it.
    [[nodiscard]] result<held> adopt(reference of) const noexcept {
        tarn_shm_chunk chunk;
        int const code = tarn_shm_describe(client_, of.value(), &chunk);
        if (code != TARN_SHM_OK) {
            return static_cast<errc>(code);
        }
        return held{client_, chunk};
    }

    /// The smallest pool whose chunks do.
    [[nodiscard]] std::optional<std::uint32_t> pool_for(
        std::size_t bytes, std::uint32_t alignment = 0) const noexcept {
        std::uint32_t const pool = tarn_shm_pool_for(client_, bytes, alignment);
        return pool < TARN_SHM_POOLS_MAX ? std::optional{pool} : std::nullopt;
    }

    /// Cost: a look at each chunk of it. errc::invalid: there is no such pool.
    [[nodiscard]] result<tarn_shm_pool_info> pool(std::uint32_t number) const noexcept {
        tarn_shm_pool_info info{};
        int const code = tarn_shm_pool_info_get(client_, number, &info);
        if (code != TARN_SHM_OK) {
            return static_cast<errc>(code);
        }
        return info;
    }

    /// All, the smallest chunks first.
    [[nodiscard]] std::vector<tarn_shm_pool_info> pools() const {
        std::vector<tarn_shm_pool_info> all;
        tarn_shm_pool_info info{};
        for (std::uint32_t number = 0;
             tarn_shm_pool_info_get(client_, number, &info) == TARN_SHM_OK; ++number) {
            all.push_back(info);
        }
        return all;
    }

    /// Those that are attached, and the dead that nobody has noticed yet.
    [[nodiscard]] std::vector<client_info> clients() const {
        std::vector<client_info> all;
        for (std::uint32_t number = 0; number < TARN_SHM_CLIENTS_MAX; ++number) {
            client_info one{.number = number, .about = {}};
            if (tarn_shm_client_info_get(client_, number, &one.about) == TARN_SHM_OK &&
                one.about.state != 0) {
                all.push_back(one);
            }
        }
        return all;
    }

    /// Who holds a chunk now: a bit for each client, by its number. errc::stale: nobody does.
    [[nodiscard]] result<std::uint64_t> holders(reference of) const noexcept {
        constexpr std::uint64_t generations = 0xffff;  // the end of a reference
        tarn_shm_chunk_info info{};
        int const code = tarn_shm_chunk_info_get(client_, of.pool(), of.number(), &info);
        if (code != TARN_SHM_OK) {
            return static_cast<errc>(code);
        }
        if (info.holders == 0 || info.generation != (of.value() & generations)) {
            return errc::stale;
        }
        return info.holders;
    }

    /// For the C interface.
    [[nodiscard]] tarn_shm* handle() const noexcept { return client_; }

private:
    [[nodiscard]] result<loan> allocate_slow(std::size_t bytes, std::uint32_t alignment,
                                             asking const& how) const noexcept {
        tarn_shm_asking const raw = how.raw();
        tarn_shm_chunk chunk;
        int const code = tarn_shm_allocate(client_, bytes, alignment, &raw, &chunk);
        if (code != TARN_SHM_OK) {
            return static_cast<errc>(code);
        }
        return loan{client_, chunk, loan::kind::counted};
    }

    tarn_shm* client_;
};

}  // namespace tarn::shm
