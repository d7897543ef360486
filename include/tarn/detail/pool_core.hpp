// tarn/detail/pool_core.hpp - pool_core: what block_pool and object_pool point at: a store, and how
// the pool is named in reports.
//
// Threads    one at a time
// Always     does not move; lies in memory of its home, or in the user's buffer
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <stdexcept>

#include <tarn/detail/block_store.hpp>
#include <tarn/detail/listed_owner.hpp>
#include <tarn/detail/misuse.hpp>

namespace tarn::detail {

struct pool_names {
    char const* kind;  // "block_pool"
    char const* name;  // the user's; may be empty
};

template <class Store = block_store>
struct pool_core {
    /// From `upstream`, which also becomes the core's home.
    pool_core(pool_names of, block_shape shape, std::size_t blocks_most,
              std::pmr::memory_resource* upstream)
        : store{shape, blocks_most, upstream}, owner{of.kind, of.name}, home{upstream} {
        store.tell(owner.get());
    }

    /// In a buffer.
    pool_core(pool_names of, block_shape shape, std::span<std::byte> buffer)
        : store{shape, buffer}, owner{of.kind, of.name} {
        store.tell(owner.get());
    }

    pool_core(pool_core const&) = delete;
    pool_core& operator=(pool_core const&) = delete;

    ~pool_core() { store.tell(nullptr); }

    /// Whether the block may be given back; if not, that is reported, but for null.
    [[gnu::cold, gnu::noinline]] bool confirm(char const* operation, void const* block,
                                              block_verdict verdict) const noexcept {
        if (verdict != block_verdict::fine && block != nullptr) {
            report({owner.kind(), owner.name(), operation, block, reason(verdict)});
        }
        return verdict == block_verdict::fine;
    }

    /// The same, but throws std::invalid_argument.
    [[gnu::cold, gnu::noinline]] bool demand(char const* operation, void const* block,
                                             block_verdict verdict) const {
        if (verdict != block_verdict::fine && block != nullptr) {
            fail({owner.kind(), owner.name(), operation, block, reason(verdict)});
        }
        return verdict == block_verdict::fine;
    }

    Store store;
    listed_owner owner;
    std::pmr::memory_resource* home = nullptr;  // null: in the user's buffer
};

/// What allocations and frees touch of a store is to lie in one line.
template <class Core>
inline constexpr std::size_t core_alignment = std::max(alignof(Core), std::size_t{64});

/// A `Core` made with arguments and `home`, in memory of `home`.
template <class Core, class... Arguments>
[[nodiscard]] Core* make_core(std::pmr::memory_resource* home, Arguments const&... arguments) {
    void* const memory = home->allocate(sizeof(Core), core_alignment<Core>);
    try {
        return ::new (memory) Core{arguments..., home};
    } catch (...) {
        home->deallocate(memory, sizeof(Core), core_alignment<Core>);
        throw;
    }
}

/// Null is allowed.
template <class Core>
void destroy_core(Core* core) noexcept {
    if (core == nullptr) {
        return;
    }
    std::pmr::memory_resource* const home = core->home;
    std::destroy_at(core);
    if (home != nullptr) {
        home->deallocate(core, sizeof(Core), core_alignment<Core>);
    }
}

}  // namespace tarn::detail
