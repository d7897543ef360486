#include "shm/registry.hpp"

#include <array>
#include <atomic>
#include <cstring>

#include "platform/threads.hpp"

namespace tarn::impl::shm {

namespace {

struct place {
    std::atomic<std::byte*> base{nullptr};
    std::atomic<std::uint64_t> bytes{0};
};

constinit std::array<place, ids_end> places{};

using list_mutex = base::ranked_mutex<base::lock_rank::shm_clients, platform::private_futex>;

constinit list_mutex listing;
constinit client* first_client TARN_GUARDED_BY(listing) = nullptr;
constinit std::array<char, 256> demanded TARN_GUARDED_BY(listing){};  // as the program spells it
constinit bool is_demanding TARN_GUARDED_BY(listing) = false;

using gate_mutex = base::ranked_mutex<base::lock_rank::shm_gate, platform::private_futex>;

constinit gate_mutex gate;
constinit bool has_fork_hooks TARN_GUARDED_BY(gate) = false;

/// The mapping that stands for the segment, after the list has changed.
void settle(std::uint32_t id) TARN_REQUIRES(listing) {
    client* found = nullptr;
    for (client* each = first_client; each != nullptr; each = each->next) {
        if (each->head().id == id && each->kind() != client_kind::observer &&
            each->base() != nullptr) {
            found = each;  // the last in the list came first
        }
    }
    place& at = places[id];
    std::byte* const base = found == nullptr ? nullptr : found->base();
    if (at.base.load(std::memory_order_relaxed) == base) {
        return;
    }
    // In this order, so that find_mapped() never takes one's base for another's length: release and
    // acquire make it see the base change where it has seen the length change.
    at.base.store(nullptr, std::memory_order_relaxed);
    if (found != nullptr) {
        at.bytes.store(found->head().file_bytes, std::memory_order_release);
        at.base.store(base, std::memory_order_release);
    }
}

// Not ranked: the hooks of the heaps come later in the order of prepare, and have lower ranks.
void before_fork() TARN_NO_THREAD_SAFETY_ANALYSIS {
    gate.lock_unranked();
    listing.lock_unranked();
}

void after_fork() TARN_NO_THREAD_SAFETY_ANALYSIS {
    listing.unlock_unranked();
    gate.unlock_unranked();
}

void in_child() TARN_NO_THREAD_SAFETY_ANALYSIS {
    for (client* each = first_client; each != nullptr; each = each->next) {
        each->forget_in_child();
    }
    for (client* each = first_client; each != nullptr; each = each->next) {
        settle(each->head().id);
    }
    after_fork();
}

}  // namespace

fork_gate::fork_gate() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    gate.lock();
    if (!has_fork_hooks) {
        has_fork_hooks = platform::install_fork_hooks(
            {.prepare = before_fork, .parent = after_fork, .child = in_child});
    }
}

fork_gate::~fork_gate() TARN_NO_THREAD_SAFETY_ANALYSIS { gate.unlock(); }

bool enlist(client& added) noexcept {
    listing.lock();
    for (client const* each = first_client; each != nullptr; each = each->next) {
        if (each->head().id == added.head().id && each->head().uuid != added.head().uuid &&
            each->kind() != client_kind::observer && added.kind() != client_kind::observer) {
            listing.unlock();
            return false;
        }
    }
    added.previous = nullptr;
    added.next = first_client;
    if (first_client != nullptr) {
        first_client->previous = &added;
    }
    first_client = &added;
    added.is_listed = true;
    settle(added.head().id);
    listing.unlock();
    return true;
}

namespace {

void unlink(client& gone) TARN_REQUIRES(listing) {
    (gone.previous == nullptr ? first_client : gone.previous->next) = gone.next;
    if (gone.next != nullptr) {
        gone.next->previous = gone.previous;
    }
    gone.is_listed = false;
    settle(gone.head().id);
}

}  // namespace

void delist(client& gone) noexcept {
    if (gone.is_listed) {
        listing.lock();
        unlink(gone);
        listing.unlock();
    }
}

std::byte* find_mapped(std::uint32_t id, std::uint64_t offset, std::uint64_t bytes) noexcept {
    place const& at = places[id & (ids_end - 1)];
    std::byte* const base = at.base.load(std::memory_order_acquire);
    std::uint64_t const most = at.bytes.load(std::memory_order_acquire);
    bool const is_inside = base != nullptr && bytes <= most && offset <= most - bytes;
    return is_inside && at.base.load(std::memory_order_relaxed) == base ? base + offset : nullptr;
}

bool is_mapped(std::uint32_t id) noexcept {
    return places[id & (ids_end - 1)].base.load(std::memory_order_relaxed) != nullptr;
}

int demand_from(char const* domain_name, failure_note& note) noexcept {
    domain in;
    if (int const error = in.open(domain_name, when_missing::fail, note); error != 0) {
        return error;
    }
    listing.lock();
    demanded = {};
    is_demanding = true;
    if (domain_name != nullptr) {
        std::memcpy(demanded.data(), domain_name, ::strnlen(domain_name, demanded.size() - 1));
    }
    listing.unlock();
    return TARN_SHM_OK;
}

std::byte* map_and_find(std::uint32_t id, std::uint64_t offset, std::uint64_t bytes) noexcept {
    listing.lock();
    std::array<char, 256> const spelled = demanded;
    bool const may = is_demanding && id < anonymous_ids_from;
    listing.unlock();
    if (!may) {
        return nullptr;
    }
    failure_note nobody{nullptr};
    domain in;
    platform::shared_file file;
    platform::file_status status;
    tarn_shm_attaching const asked = TARN_SHM_ATTACHING_DEFAULT;
    id_name const name{id};
    fork_gate const closed;
    if (in.open(spelled[0] == '\0' ? nullptr : spelled.data(), when_missing::fail, nobody) == 0 &&
        in.open_to_look(name.get(), file, status, nobody) == 0) {
        client* const made =
            client::attach(file, status, asked, client_kind::mapping, name.get(), nobody);
        if (made != nullptr && made->head().id != id) {
            made->leave();
        }
    }
    return find_mapped(id, offset, bytes);
}

void unmap_demanded() noexcept {
    for (;;) {
        fork_gate const closed;
        listing.lock();
        client* found = first_client;
        while (found != nullptr && found->kind() != client_kind::mapping) {
            found = found->next;
        }
        if (found != nullptr) {
            unlink(*found);  // nobody else finds it now
        }
        listing.unlock();
        if (found == nullptr) {
            return;
        }
        found->leave();
    }
}

std::uint64_t relative_of(void const* pointer) noexcept {
    auto const* const asked = static_cast<std::byte const*>(pointer);
    std::uint64_t relative = 0;
    listing.lock();
    for (client const* each = first_client; each != nullptr && relative == 0; each = each->next) {
        auto const offset =
            static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(asked) -
                                       reinterpret_cast<std::uintptr_t>(each->base()));
        if (each->base() != nullptr && offset < each->head().file_bytes) {
            relative = (std::uint64_t{each->head().id} << 48) | offset;
        }
    }
    listing.unlock();
    return relative;
}

}  // namespace tarn::impl::shm
