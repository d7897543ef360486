// tarn/allocator.hpp - allocator<T>, resource_allocator<T, Resource>: for standard containers.
//
// Threads    as what they allocate from
// Always     allocator<T> has no state: all are equal. resource_allocator<T, R> holds a pointer to
//            a resource, which must outlive it, and calls it directly where R is final; containers
//            take it along when they are moved or swapped, not when they are assigned a copy.
// Errors     std::bad_array_new_length: count * sizeof(T) overflows; std::bad_alloc
// Cost       as what they allocate from
#pragma once

#include <cstddef>
#include <limits>
#include <memory_resource>
#include <new>
#include <type_traits>

#include <tarn/memory_resource.hpp>
#include <tarn/tarn.h>

namespace tarn {

namespace detail {

template <class T>
constexpr std::size_t bytes_of(std::size_t count) {
    if (count > std::numeric_limits<std::size_t>::max() / sizeof(T)) {
        throw std::bad_array_new_length{};
    }
    return count * sizeof(T);
}

}  // namespace detail

/// tarn_malloc() and tarn_free().
template <class T>
class allocator {
public:
    using value_type = T;
    using is_always_equal = std::true_type;
    using propagate_on_container_move_assignment = std::true_type;

    constexpr allocator() noexcept = default;

    template <class U>
    // NOLINTNEXTLINE(google-explicit-constructor): containers convert
    constexpr allocator(allocator<U> const& /*other*/) noexcept {}

    [[nodiscard]] T* allocate(std::size_t count) {
        return static_cast<T*>(malloc_resource()->allocate(detail::bytes_of<T>(count), alignof(T)));
    }

    void deallocate(T* block, std::size_t /*count*/) noexcept { tarn_free(block); }

    template <class U>
    friend constexpr bool operator==(allocator const& /*a*/, allocator<U> const& /*b*/) noexcept {
        return true;
    }
};

/// From a std::pmr::memory_resource whose type is known.
template <class T, class Resource = std::pmr::memory_resource>
class resource_allocator {
public:
    using value_type = T;
    using is_always_equal = std::false_type;
    using propagate_on_container_copy_assignment = std::false_type;
    using propagate_on_container_move_assignment = std::true_type;
    using propagate_on_container_swap = std::true_type;

    // NOLINTNEXTLINE(google-explicit-constructor): as std::pmr's
    resource_allocator(Resource* resource) noexcept : resource_{resource} {}

    template <class U>
    // NOLINTNEXTLINE(google-explicit-constructor): as above
    resource_allocator(resource_allocator<U, Resource> const& other) noexcept
        : resource_{other.resource()} {}

    [[nodiscard]] T* allocate(std::size_t count) {
        return static_cast<T*>(resource_->allocate(detail::bytes_of<T>(count), alignof(T)));
    }

    void deallocate(T* block, std::size_t count) noexcept {
        resource_->deallocate(block, count * sizeof(T), alignof(T));
    }

    [[nodiscard]] Resource* resource() const noexcept { return resource_; }

    template <class U>
    friend bool operator==(resource_allocator const& a,
                           resource_allocator<U, Resource> const& b) noexcept {
        return a.resource() == b.resource() || a.resource()->is_equal(*b.resource());
    }

private:
    Resource* resource_;
};

}  // namespace tarn
