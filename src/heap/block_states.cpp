#include "heap/block_states.hpp"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "base/check.hpp"

namespace tarn::impl::heap {

namespace {

constexpr std::size_t header_bytes = 2 * sizeof(base::node_index);

}  // namespace

static_assert(guarded_blocks(1) <= 4096 - header_bytes);

template <class Use>
auto state_tables::with_table(auto& tables, unsigned size_class, Use use) noexcept {
    std::size_t const needed = std::bit_ceil(guarded_blocks(size_class) + header_bytes);
    switch (std::max<std::size_t>(needed, 64)) {
        case 64:
            return use(std::get<0>(tables));
        case 128:
            return use(std::get<1>(tables));
        case 256:
            return use(std::get<2>(tables));
        case 512:
            return use(std::get<3>(tables));
        case 1024:
            return use(std::get<4>(tables));
        case 2048:
            return use(std::get<5>(tables));
        default:
            return use(std::get<6>(tables));
    }
}

block_state* state_tables::allocate(unsigned size_class) noexcept {
    return with_table(tables_, size_class, [size_class](auto& from) -> block_state* {
        auto* const fresh = from.allocate();
        if (fresh == nullptr) {
            return nullptr;
        }
        for (std::size_t i = 0; i < guarded_blocks(size_class); ++i) {
            fresh->states[i].store(state_free, std::memory_order_relaxed);
        }
        return fresh->states.data();
    });
}

void state_tables::deallocate(unsigned size_class, block_state* states) noexcept {
    with_table(tables_, size_class, [states](auto& to) {
        using record_type = std::remove_pointer_t<decltype(to.allocate())>;
        auto* const start = reinterpret_cast<std::byte*>(states) - offsetof(record_type, states);
        to.deallocate(*reinterpret_cast<record_type*>(start));
    });
}

std::size_t state_tables::committed_bytes() const noexcept {
    return std::apply([](auto const&... each) { return (each.committed_bytes() + ...); }, tables_);
}

std::size_t state_tables::reserved_bytes() const noexcept {
    return std::apply([](auto const&... each) { return (each.reserved_bytes() + ...); }, tables_);
}

void state_tables::lock_for_fork() noexcept {
    std::apply([](auto&... each) { (each.lock_for_fork(), ...); }, tables_);
}

void state_tables::unlock_after_fork() noexcept {
    std::apply([](auto&... each) { (each.unlock_after_fork(), ...); }, tables_);
}

}  // namespace tarn::impl::heap
