// tarn/detail/region_cleanup.hpp - what a region runs before its memory goes: list nodes that lie
// in the region itself.
//
// Always     act() lets no exception out: a cleanup that throws ends in std::terminate
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace tarn::detail {

enum class cleanup_step : std::uint8_t {
    release,  // the memory goes next
    exec,     // in a child that is about to exec(); the node stays
    run,      // asked for by its id; the node goes
    forget,   // cancelled
};

/// Newest first. `act` is null for a child region, which is a node of its parent's list.
struct cleanup_node {
    using action = void (*)(cleanup_node&, cleanup_step) noexcept;

    cleanup_node* older = nullptr;
    cleanup_node* newer = nullptr;
    action act = nullptr;
};

template <class T>
struct object_node final : cleanup_node {
    alignas(T) std::byte storage[sizeof(T)];

    static void destroy(cleanup_node& node, cleanup_step step) noexcept {
        if (step == cleanup_step::release) {
            auto& self = static_cast<object_node&>(node);
            std::destroy_at(std::launder(reinterpret_cast<T*>(self.storage)));
        }
    }
};

/// Its elements follow, at the next multiple of their alignment.
template <class T>
struct array_node final : cleanup_node {
    std::size_t count = 0;

    static constexpr std::size_t alignment = alignof(T) > alignof(cleanup_node)
                                                 ? alignof(T)
                                                 : alignof(cleanup_node);
    static constexpr std::size_t offset =
        (sizeof(cleanup_node) + sizeof(std::size_t) + alignof(T) - 1) / alignof(T) * alignof(T);

    [[nodiscard]] T* elements() noexcept {
        return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(this) + offset);
    }

    static void destroy(cleanup_node& node, cleanup_step step) noexcept {
        if (step == cleanup_step::release) {
            auto& self = static_cast<array_node&>(node);
            T* const first = std::launder(self.elements());
            for (std::size_t left = self.count; left > 0; --left) {
                std::destroy_at(first + (left - 1));
            }
        }
    }
};

enum class hook_event : std::uint8_t { release = 1, exec = 2, release_or_exec = 3 };

[[nodiscard]] constexpr bool has(hook_event set, hook_event event) noexcept {
    return (static_cast<unsigned>(set) & static_cast<unsigned>(event)) != 0;
}

struct hook_node : cleanup_node {
    std::uint64_t serial = 0;
    hook_event events{};
};

template <class Function>
struct function_node final : hook_node {
    Function call;

    template <class F>
    function_node(std::in_place_t /*tag*/, F&& function) noexcept
        : call{std::forward<F>(function)} {
        act = &step_to;
    }

    // NOLINTNEXTLINE(bugprone-exception-escape): std::terminate, as promised
    static void step_to(cleanup_node& node, cleanup_step step) noexcept {
        auto& self = static_cast<function_node&>(node);
        if (step == cleanup_step::run ||
            (step == cleanup_step::release && has(self.events, hook_event::release)) ||
            (step == cleanup_step::exec && has(self.events, hook_event::exec))) {
            static_cast<void>(self.call());
        }
        if (step != cleanup_step::exec) {
            std::destroy_at(&self);
        }
    }
};

}  // namespace tarn::detail
