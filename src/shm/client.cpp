#include "shm/client.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "shm/geometry.hpp"

namespace tarn::impl::shm {

namespace {

constexpr std::uint64_t alive = 1;

std::uint64_t slot_lock(std::uint32_t number) noexcept { return slot_bytes_from + number; }

bool has_slot(client_kind kind) noexcept { return kind <= client_kind::reader; }

/// Spreads what clients look at first over the pool: neighbours share cache lines.
std::uint32_t first_look(client_number client, std::uint32_t count) noexcept {
    auto const mixed = static_cast<std::uint32_t>(client) * 0x9e3779b9U;
    return static_cast<std::uint32_t>((std::uint64_t{mixed} * count) >> 32);
}

platform::process_identity owner_of(client_slot const& slot) noexcept {
    return {
        .process_id = static_cast<std::int32_t>(slot.process_id.load(std::memory_order_relaxed)),
        .user_id = slot.user_id.load(std::memory_order_relaxed),
        .namespace_id = slot.namespace_id.load(std::memory_order_relaxed),
        .started = slot.started.load(std::memory_order_relaxed)};
}

void write_label(client_slot& slot, char const* label) noexcept {
    std::array<char, label_bytes> text{};
    std::memcpy(text.data(), label, ::strnlen(label, text.size() - 1));
    for (std::size_t i = 0; i < slot.label.size(); ++i) {
        std::uint64_t part = 0;
        std::memcpy(&part, text.data() + i * sizeof part, sizeof part);
        slot.label[i].store(part, std::memory_order_relaxed);
    }
}

}  // namespace

client* client::attach(platform::shared_file& file, platform::file_status const& status,
                       tarn_shm_attaching const& asked, client_kind kind, char const* what,
                       failure_note& note) noexcept {
    header read{};
    std::size_t const page_bytes = platform::shared_page_bytes();
    if (status.bytes < sizeof read) {
        note.set(TARN_SHM_INCOMPATIBLE, what, ": no segment of Tarn");
        return nullptr;
    }
    if (int const error = file.read(0, &read, sizeof read); error != 0) {
        note.set_system(error, what, " cannot be read");
        return nullptr;
    }
    if (check(read, status.bytes, page_bytes, what, note) != 0) {
        return nullptr;
    }
    std::size_t counts = 0;
    std::array<std::size_t, pools_most> first{};
    for (std::uint32_t pool = 0; pool < read.pool_count; ++pool) {
        first[pool] = counts;
        counts += has_slot(kind) ? read.pools[pool].count_most : 0;
    }
    std::size_t const counts_at = (sizeof(client) + line_bytes - 1) / line_bytes * line_bytes;
    std::size_t const bytes = counts_at + counts * sizeof(private_count);
    void* const memory = platform::map_private(bytes);
    if (memory == nullptr) {
        note.set_system(ENOMEM, what, ": ", static_cast<std::uint64_t>(bytes),
                        " bytes for this client");
        return nullptr;
    }
    auto* const made = ::new (memory) client{};
    made->private_bytes_ = bytes;
    made->counts_ = reinterpret_cast<private_count*>(static_cast<std::byte*>(memory) + counts_at);
    made->first_count_ = first;
    made->head_ = read;
    made->kind_ = kind;
    made->may_write_ = has_slot(kind);
    made->file_.take(file);
    made->inode_ = status.inode;
    made->device_ = status.device;
    char program[label_bytes] = "";
    if (asked.label == nullptr) {
        platform::read_program_name(program, sizeof program);
    }
    if (made->map(asked, what, note) != 0 ||
        (has_slot(kind) &&
         made->claim_slot(asked.label == nullptr ? program : asked.label, what, note) != 0)) {
        made->leave();
        return nullptr;
    }
    if (!enlist(*made)) {
        // References and relative pointers of one would lead into the other.
        note.set(TARN_SHM_IN_USE, what, ": its id, ", read.id,
                 ", is that of another segment that this process has");
        made->leave();
        return nullptr;
    }
    if (has_slot(kind)) {
        // Not only whose slot it got. And nobody else can tell an earlier life of this process,
        // before exec(), from this one: it, too, has the file mapped.
        static_cast<void>(made->recover());
    }
    return made;
}

int client::map(tarn_shm_attaching const& asked, char const* what, failure_note& note) noexcept {
    platform::file_access const access =
        has_slot(kind_) ? platform::file_access::read_write : platform::file_access::read_only;
    std::uint64_t alignment = head_.page_bytes;
    for (std::uint32_t pool = 0; pool < head_.pool_count; ++pool) {
        alignment = std::max<std::uint64_t>(alignment, row(pool).alignment);
    }
    if (reinterpret_cast<std::uintptr_t>(asked.address) % alignment != 0) {
        return note.set(TARN_SHM_INVALID, "attaching.address is not a multiple of ", alignment);
    }
    void* mapped = nullptr;
    if (int const error = file_.map(head_.file_bytes, alignment, access, asked.address, mapped);
        error != 0) {
        return asked.address != nullptr && error == EEXIST
                   ? note.set(TARN_SHM_INVALID, "attaching.address: something is mapped there")
                   : note.set_system(error, what, ": ", head_.file_bytes,
                                     " bytes of address space cannot be had");
    }
    base_ = static_cast<std::byte*>(mapped);
    if (!has_slot(kind_)) {
        return TARN_SHM_OK;
    }
    // A child that has the mapping would keep this client's locks when this process is dead.
    int error = platform::keep_from_children(base_, head_.file_bytes);
    // The header is never written again, and a reader writes no payload.
    if (error == 0) {
        error = platform::protect_mapping(base_, head_.shared_at, platform::file_access::read_only);
    }
    if (error == 0 && kind_ == client_kind::reader) {
        error =
            platform::protect_mapping(base_ + head_.payload_at, head_.file_bytes - head_.payload_at,
                                      platform::file_access::read_only);
    }
    return error == 0 ? TARN_SHM_OK : note.set_system(error, what, ": protection of its mapping");
}

int client::claim_slot(char const* label, char const* what, failure_note& note) noexcept {
    // More than once around: who recovers a slot has it locked for a moment.
    constexpr std::uint32_t rounds = 8;
    for (std::uint32_t tries = 0; tries < rounds * clients_most; ++tries) {
        std::uint32_t const number = tries % clients_most;
        if (tries != 0 && number == 0) {
            platform::let_others_run();
        }
        int const error = file_.try_lock(slot_lock(number), platform::lock_kind::exclusive);
        if (error == EAGAIN) {
            continue;
        }
        if (error != 0) {
            return note.set_system(error, what, ": lock");
        }
        client_slot& mine = slot(number);
        std::uint64_t state = mine.state.load(std::memory_order_acquire);
        if ((state & alive) != 0) {
            clear_slot(number, state);
            words().recoveries.fetch_add(1, std::memory_order_relaxed);
            state = mine.state.load(std::memory_order_relaxed);
        }
        platform::process_identity const me = platform::this_process();
        mine.process_id.store(static_cast<std::uint32_t>(me.process_id), std::memory_order_relaxed);
        mine.user_id.store(me.user_id, std::memory_order_relaxed);
        mine.namespace_id.store(me.namespace_id, std::memory_order_relaxed);
        mine.started.store(me.started, std::memory_order_relaxed);
        mine.allocations.store(0, std::memory_order_relaxed);
        write_label(mine, label);
        // release: pairs with the acquire of who looks at the slot. From here on a death is seen.
        mine.state.store((state | alive) + 2, std::memory_order_release);
        me_ = static_cast<client_number>(number);
        for (std::uint32_t pool = 0; pool < head_.pool_count; ++pool) {
            start_[pool].store(first_look(me_, row(pool).count), std::memory_order_relaxed);
        }
        return TARN_SHM_OK;
    }
    return note.set(TARN_SHM_TOO_MANY, what, ": all ", static_cast<std::uint64_t>(clients_most),
                    " clients that a segment may have are attached");
}

void client::leave() noexcept {
    delist(*this);
    if (!is_forked_.load(std::memory_order_relaxed)) {
        bool const has_file = owns_file();
        if (static_cast<unsigned>(me_) < clients_most) {
            auto const number = static_cast<std::uint32_t>(me_);
            clear_slot(number, slot(number).state.load(std::memory_order_relaxed));
            // Not by closing: a child that is just being forked may still have the descriptor.
            // Without it, by unmapping.
            file_.unlock(slot_lock(number));
        }
        if (has_slot(kind_) && has_file) {
            platform::file_status status;
            file_.unlock(attached_byte);
            if (has_domain_ && file_.status(status) == 0 && status.links == 1) {
                failure_note nobody{nullptr};
                domain named;
                char const* const spelled = domain_[0] == '\0' ? nullptr : domain_.data();
                if (named.open(spelled, when_missing::fail, nobody) == 0) {
                    named.sweep_id(head_.id);
                }
            }
        }
    }
    file_.close();
    if (platform::file_status now; passed_on_.status(now) != 0 || now.inode != inode_) {
        static_cast<void>(passed_on_.release());  // another file's number by now
    }
    passed_on_.close();
    if (base_ != nullptr) {
        platform::unmap_shared(base_, head_.file_bytes);
    }
    std::size_t const bytes = private_bytes_;
    this->~client();
    platform::unmap_shared(this, bytes);
}

std::uint32_t client::ready(std::uint32_t pool) const noexcept {
    pool_row const& of = row(pool);
    std::uint32_t const said = words().ready[pool].load(std::memory_order_acquire);
    return std::clamp(said, of.count, of.count_most);
}

void client::tell_waiters() noexcept {
    shared_words& to = words();
    // seq_cst: pairs with that of a waiter, who says that it waits before it looks for a chunk; the
    // hint was set, or the state changed, before this.
    if (to.waiting.load(std::memory_order_seq_cst) == 0) [[likely]] {
        return;
    }
    if (to.waiting.exchange(0, std::memory_order_seq_cst) != 0) {
        to.sequence.fetch_add(1, std::memory_order_seq_cst);
        platform::wake_shared(to.sequence);
    }
}

bool client::owns_file() noexcept {
    platform::file_status now;
    bool const is_same =
        file_.is_open() && file_.status(now) == 0 && now.inode == inode_ && now.device == device_;
    // The mapping keeps the file that was attached open, and its locks. So another open file of the
    // same segment, under the same number, finds the own slot locked.
    auto const mine = static_cast<std::uint32_t>(me_);
    if (is_same && (mine >= clients_most || !file_.is_locked(slot_lock(mine)))) {
        return true;
    }
    static_cast<void>(file_.release());
    return false;
}

void client::clear_slot(std::uint32_t number, std::uint64_t state) noexcept {
    for (std::uint32_t pool = 0; pool < head_.pool_count; ++pool) {
        chunks_of(pool).recover(static_cast<client_number>(number));
    }
    // release: pairs with the acquire in claim_slot(): its next owner has none of these chunks.
    slot(number).state.store(state & ~alive, std::memory_order_release);
    tell_waiters();
}

bool client::recover_slot(std::uint32_t number) noexcept {
    client_slot& of = slot(number);
    if ((of.state.load(std::memory_order_acquire) & alive) == 0 ||
        file_.try_lock(slot_lock(number), platform::lock_kind::exclusive) != 0) {
        return false;
    }
    std::uint64_t const state = of.state.load(std::memory_order_acquire);
    bool const is_dead = (state & alive) != 0;
    if (is_dead) {
        clear_slot(number, state);
        words().recoveries.fetch_add(1, std::memory_order_relaxed);
    }
    file_.unlock(slot_lock(number));
    return is_dead;
}

int client::recover() noexcept {
    if (is_forked_.load(std::memory_order_relaxed)) {
        return -TARN_SHM_FORKED;
    }
    // One descriptor's locks do not exclude its own threads from each other.
    repairing_.lock();
    int found = 0;
    if (!may_write_) {
        may_write_ =
            platform::protect_mapping(base_ + head_.shared_at, head_.payload_at - head_.shared_at,
                                      platform::file_access::read_write) == 0;
    }
    if (!may_write_) {
        found = -TARN_SHM_READ_ONLY;
    } else if (!owns_file()) {
        found = -TARN_SHM_SYSTEM;
    } else {
        for (std::uint32_t number = 0; number < clients_most; ++number) {
            if (static_cast<client_number>(number) != me_ && recover_slot(number)) {
                ++found;
            }
        }
    }
    repairing_.unlock();
    return found;
}

int client::housekeep(std::uint32_t most_ms) noexcept {
    constexpr std::uint64_t look_ms = 100;  // for clients that came since, and those not seen
    bool const for_ever = most_ms == TARN_SHM_WAIT_FOR_EVER;
    std::uint64_t const until = platform::monotonic_ms() + most_ms;
    for (;;) {
        int const found = recover();
        std::uint64_t const now = platform::monotonic_ms();
        if (found != 0 || (!for_ever && now >= until)) {
            return found;
        }
        platform::process_watch watch;
        for (std::uint32_t number = 0; number < clients_most; ++number) {
            client_slot const& of = slot(number);
            if (static_cast<client_number>(number) != me_ &&
                (of.state.load(std::memory_order_acquire) & alive) != 0) {
                watch.add(owner_of(of));
            }
        }
        std::uint64_t const left = for_ever ? look_ms : std::min(until - now, look_ms);
        std::uint32_t const seen = words().sequence.load(std::memory_order_seq_cst);
        if (!watch.wait(static_cast<std::uint32_t>(left))) {
            continue;
        }
        int const cleared = recover();
        if (cleared != 0) {
            return cleared;
        }
        // It has ended, and yet its lock is there: a child of it was made without fork().
        platform::wait_shared(words().sequence, seen, static_cast<std::uint32_t>(left));
    }
}

int client::grow(std::uint32_t pool, std::uint32_t seen) noexcept {
    pool_row const& of = row(pool);
    if (seen == of.count_most) {
        return TARN_SHM_EXHAUSTED;
    }
    repairing_.lock();
    int error = owns_file() ? file_.try_lock(growth_byte, platform::lock_kind::exclusive) : EBADF;
    if (error == 0) {
        std::uint32_t const from = ready(pool);
        std::uint32_t const more = from == seen ? std::min(of.count, of.count_most - from) : 0;
        error = more == 0 ? 0 : file_.reserve(of.payloads_at + of.stride * from, of.stride * more);
        if (error == 0 && more != 0) {
            // release: pairs with the acquire in ready(): these have memory. A death here leaves
            // free chunks without hints, which recover() mends.
            words().ready[pool].store(from + more, std::memory_order_release);
            chunks::hint_words hints{
                reinterpret_cast<chunks::hint_words::word*>(base_ + of.hints_at), from + more};
            for (std::uint32_t number = from; number < from + more; ++number) {
                hints.set(number);
            }
        }
        file_.unlock(growth_byte);
        tell_waiters();
    }
    repairing_.unlock();
    return error == 0 ? TARN_SHM_OK : error == EAGAIN ? TARN_SHM_IN_USE : meaning_of(error);
}

int client::state_of(std::uint32_t number) noexcept {
    client_slot const& of = slot(number);
    if ((of.state.load(std::memory_order_acquire) & alive) == 0) {
        return 0;
    }
    if (static_cast<client_number>(number) == me_) {
        return 1;
    }
    repairing_.lock();
    bool const is_known_alive = !owns_file() || file_.is_locked(slot_lock(number));
    repairing_.unlock();
    return is_known_alive ? 1 : 2;
}

void client::note_domain(char const* spelled) noexcept {
    has_domain_ = true;
    if (spelled != nullptr) {
        std::memcpy(domain_.data(), spelled, ::strnlen(spelled, domain_.size() - 1));
    }
}

void client::forget_in_child() noexcept {
    is_forked_.store(true, std::memory_order_relaxed);
    file_.close();
    if (has_slot(kind_)) {
        base_ = nullptr;  // the child does not have it: map()
    }
}

}  // namespace tarn::impl::shm
