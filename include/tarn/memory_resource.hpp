// tarn/memory_resource.hpp - std::pmr::memory_resource over Tarn.
//
// Threads    malloc_resource(): any
// Always     lives before the first constructor and after the last destructor of a program
// Errors     std::bad_alloc; std::invalid_argument where an alignment is no power of two
// Cost       a virtual call more than tarn_malloc()
#pragma once

#include <bit>
#include <cstddef>
#include <memory_resource>
#include <new>
#include <stdexcept>

#include <tarn/tarn.h>

namespace tarn {

namespace detail {

class core_resource final : public std::pmr::memory_resource {
private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        if (!std::has_single_bit(alignment)) {
            throw std::invalid_argument{"tarn::malloc_resource: alignment is no power of two"};
        }
        void* const block = alignment <= natural_alignment ? tarn_malloc(bytes)
                                                           : tarn_aligned_alloc(alignment, bytes);
        if (block == nullptr) {
            throw std::bad_alloc{};
        }
        return block;
    }

    void do_deallocate(void* block, std::size_t /*bytes*/, std::size_t /*alignment*/) override {
        tarn_free(block);
    }

    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    static constexpr std::size_t natural_alignment = 16;
};

/// Holds an object that is never destroyed.
template <class T>
union immortal {
    constexpr immortal() : value{} {}

    constexpr ~immortal() {}

    T value;
};

inline constinit immortal<core_resource> the_core_resource;

}  // namespace detail

/// tarn_malloc() and tarn_free(). One object for the whole program; the default for everything here
/// that takes a resource.
[[nodiscard]] inline std::pmr::memory_resource* malloc_resource() noexcept {
    return &detail::the_core_resource.value;
}

}  // namespace tarn
