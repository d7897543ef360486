// shm/client.hpp - client: an attachment of a segment: its mapping, its slot and the lock that says
// it lives; how those of the dead are had back.
//
// Threads    any, but for detaching
// Always     lives in private memory of its own. What it uses of the header is a copy, checked
//            once; everything else in the segment may change under it, and is checked at each use.
// Fork       the child's copy has no descriptor, and of a client with a slot no mapping: either
//            would keep the parent's locks when the parent is dead
// Source     docs/design/shm.md
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ranked_mutex.hpp"
#include "platform/shared_file.hpp"
#include "shm/chunk_set.hpp"
#include "shm/domain.hpp"
#include "shm/failure.hpp"
#include "shm/layout.hpp"

namespace tarn::impl::shm {

enum class client_kind : std::uint8_t {
    writer,    // allocates and holds
    reader,    // holds; payloads are mapped read-only
    observer,  // looks; no slot, all is mapped read-only
    mapping    // of a segment that a relative pointer led to: the same
};

using chunks = chunk_set<atomics>;
using repair_mutex = base::ranked_mutex<base::lock_rank::shm_repair, platform::private_futex>;

/// Of a chunk, in this process: how many have it by allocate() and hold(). Chunks of which nobody
/// was told stand at 0.
using private_count = std::atomic<std::uint32_t>;
inline constexpr std::uint32_t count_busy = UINT32_MAX;  // the shared bit changes

class client {
public:
    client() noexcept = default;
    client(client const&) = delete;
    client& operator=(client const&) = delete;

    /// From an open file, whose header is read and checked. `what` names it in errors. With the
    /// file's shared lock, which it keeps; without, for observers. Within a fork_gate that is there
    /// since the file was opened.
    [[nodiscard]] static client* attach(platform::shared_file& file,
                                        platform::file_status const& status,
                                        tarn_shm_attaching const& asked, client_kind kind,
                                        char const* what, failure_note& note) noexcept;

    /// Gives everything back, the object too. Within a fork_gate.
    void leave() noexcept;

    /// 0, or why it can't do what needs a slot.
    [[nodiscard]] int usable() const noexcept {
        if (is_forked_.load(std::memory_order_relaxed)) [[unlikely]] {
            return TARN_SHM_FORKED;
        }
        return kind_ <= client_kind::reader ? TARN_SHM_OK : TARN_SHM_READ_ONLY;
    }

    [[nodiscard]] int may_allocate() const noexcept {
        int const error = usable();
        return error != 0 || kind_ == client_kind::writer ? error : TARN_SHM_READ_ONLY;
    }

    [[nodiscard]] bool is_forked() const noexcept {
        return is_forked_.load(std::memory_order_relaxed);
    }

    [[nodiscard]] header const& head() const noexcept { return head_; }

    [[nodiscard]] pool_row const& row(std::uint32_t pool) const noexcept {
        return head_.pools[pool];
    }

    [[nodiscard]] std::byte* base() const noexcept { return base_; }

    [[nodiscard]] client_number number() const noexcept { return me_; }

    [[nodiscard]] client_kind kind() const noexcept { return kind_; }

    /// Of an anonymous segment: to pass on. It has no locks, and stays a child's.
    [[nodiscard]] platform::shared_file& passed_on() noexcept { return passed_on_; }

    [[nodiscard]] shared_words& words() const noexcept {
        return *reinterpret_cast<shared_words*>(base_ + head_.shared_at);
    }

    [[nodiscard]] client_slot& slot(std::uint32_t number) const noexcept {
        return reinterpret_cast<client_slot*>(base_ + head_.slots_at)[number];
    }

    /// Chunks of a pool that have memory: never more than there may be.
    [[nodiscard]] std::uint32_t ready(std::uint32_t pool) const noexcept;

    [[nodiscard]] chunks chunks_of(std::uint32_t pool) const noexcept {
        pool_row const& where = row(pool);
        return {reinterpret_cast<chunks::truth*>(base_ + where.truths_at),
                reinterpret_cast<chunks::hint_words::word*>(base_ + where.hints_at), ready(pool)};
    }

    [[nodiscard]] std::byte* chunk_at(std::uint32_t pool, std::uint32_t number) const noexcept {
        pool_row const& where = row(pool);
        return base_ + where.payloads_at + where.stride * number;
    }

    [[nodiscard]] chunk_header& header_of(std::uint32_t pool, std::uint32_t number) const noexcept {
        return *reinterpret_cast<chunk_header*>(chunk_at(pool, number));
    }

    [[nodiscard]] private_count& count_of(std::uint32_t pool, std::uint32_t number) const noexcept {
        return counts_[first_count_[pool] + number];
    }

    /// Where to look first, and from then on.
    [[nodiscard]] std::atomic<std::uint32_t>& start(std::uint32_t pool) noexcept {
        return start_[pool];
    }

    /// Numbers what this client gives out.
    std::uint64_t next_sequence() noexcept {
        std::uint64_t const given = sequence_.fetch_add(1, std::memory_order_relaxed) + 1;
        slot(static_cast<std::uint32_t>(me_)).allocations.store(given, std::memory_order_relaxed);
        return given;
    }

    /// A chunk became free, or a client left: who waits looks again.
    void tell_waiters() noexcept;

    /// The number of dead clients that were found and cleared away; below 0: a tarn_shm_error,
    /// negative.
    int recover() noexcept;

    /// As recover(), when one dies; at most so long.
    int housekeep(std::uint32_t most_ms) noexcept;

    /// Gives a pool's next chunks memory, unless it has more by now than the `seen` that were
    /// there. TARN_SHM_EXHAUSTED: it has all it may have.
    [[nodiscard]] int grow(std::uint32_t pool, std::uint32_t seen) noexcept;

    /// Of a slot: 0 free, 1 alive, 2 dead.
    int state_of(std::uint32_t number) noexcept;

    void forget_in_child() noexcept;

    /// Where its name is, as the program spells it, for the last one that leaves.
    void note_domain(char const* spelled) noexcept;

    client* next = nullptr;  // in the list of this process; under its lock
    client* previous = nullptr;
    bool is_listed = false;

private:
    [[nodiscard]] int map(tarn_shm_attaching const& asked, char const* what,
                          failure_note& note) noexcept;
    [[nodiscard]] int claim_slot(char const* label, char const* what, failure_note& note) noexcept;
    bool recover_slot(std::uint32_t number) noexcept;
    void clear_slot(std::uint32_t number, std::uint64_t state) noexcept;
    /// Whether the descriptor still is the file that was attached, with its locks: the program may
    /// have closed it, and its number may be another file's by now. If not, it is let go.
    bool owns_file() noexcept;

    header head_{};
    platform::shared_file file_;  // whose locks say that this client lives
    platform::shared_file passed_on_;
    std::byte* base_ = nullptr;
    client_kind kind_ = client_kind::observer;
    client_number me_{clients_most};
    std::atomic<bool> is_forked_{false};
    private_count* counts_ = nullptr;
    std::array<std::size_t, pools_most> first_count_{};
    std::array<std::atomic<std::uint32_t>, pools_most> start_{};
    alignas(line_bytes) std::atomic<std::uint64_t> sequence_{0};
    std::size_t private_bytes_ = 0;
    std::uint64_t inode_ = 0;
    std::uint64_t device_ = 0;
    std::array<char, 256> domain_{};
    bool has_domain_ = false;
    bool may_write_ = false;
    repair_mutex repairing_;
};

/// Into the list of this process's clients, for relative pointers and for forks. False: its
/// segment's id is that of another one that is mapped here.
[[nodiscard]] bool enlist(client& added) noexcept;
void delist(client& gone) noexcept;

}  // namespace tarn::impl::shm
