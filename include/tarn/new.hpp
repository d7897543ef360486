// tarn/new.hpp - new_object<T>() and delete_object(base*): an object is deleted through any base,
// and nothing in its class has to help.
//
// Where the object begins, dynamic_cast<void*> says before the destructor runs; what was allocated
// there, its page knows. So the pointer may be to a base that lies inside the object (multiple or
// virtual inheritance), and no size is stored or guessed.
//
// Threads    any; an object may be deleted by another thread than made it
// Always     an exception in a constructor gives the memory back and passes on. Null is allowed
//            where something is deleted. Where a misuse is reported, nothing is destroyed.
// Errors     out of memory: std::bad_alloc. Does not compile, with a sentence that says why: a
//            polymorphic type that is not final and has no virtual destructor.
//            Reported: a pointer to what no block begins with, such as a member, an element of an
//            array, an object of a region or a pool, or on the stack; a block that is too small for
//            the type; and, where the static type is the object's (it is final, or has no virtual
//            functions), one that is too large, as for an object of a derived type.
//            Not seen: a first member, or first element, of the type's own size class; one of a
//            polymorphic type whatever the size; what was deleted before.
// Cost       above tarn_malloc() and tarn_free(), some 20 instructions per deletion and no memory
// Source     docs/design/new.md
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <tarn/detail/misuse.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

/// A class that tells itself where its memory begins and how much that is, by a member function
/// that its derived classes override:
///
///     virtual void* VirtualDeleteInfo(std::size_t& bytes) { bytes = sizeof *this; return this; }
///
/// It is asked before the destructor runs, and what it says goes before what dynamic_cast would.
template <class T>
concept has_delete_info = requires(T& object, std::size_t& bytes) {
    { object.VirtualDeleteInfo(bytes) } -> std::convertible_to<void*>;
};

namespace detail {

/// The object that a pointer leads to, and its memory.
struct whole_object {
    void* start;
    std::size_t bytes_least;
    std::size_t bytes_most;  // of its block
};

inline constexpr std::size_t any_bytes = static_cast<std::size_t>(-1);
inline constexpr std::size_t natural_alignment = 16;  // of every block

/// The largest block that a request may get: see tarn_block_at().
[[nodiscard]] constexpr std::size_t block_bytes_most(std::size_t bytes,
                                                     std::size_t alignment) noexcept {
    constexpr std::size_t large_bytes = std::size_t{128} << 10;
    constexpr std::size_t large_rounding = std::size_t{64} << 10;
    return bytes + std::max(bytes / 8, natural_alignment - 1) +
           (alignment > natural_alignment ? alignment : 0) +
           (bytes >= large_bytes ? large_rounding : 0);
}

template <class T>
inline constexpr bool is_exact_type = std::is_final_v<T> || !std::is_polymorphic_v<T>;

template <class T>
[[nodiscard]] whole_object find_whole(T* object) noexcept {
    using plain = std::remove_cv_t<T>;
    auto* const plain_object = const_cast<plain*>(object);
    if constexpr (has_delete_info<plain>) {
        std::size_t bytes = 0;
        void* const start = plain_object->VirtualDeleteInfo(bytes);
        return {start, std::max(bytes, std::size_t{1}), any_bytes};
    } else if constexpr (is_exact_type<plain>) {
        return {plain_object, sizeof(plain), block_bytes_most(sizeof(plain), alignof(plain))};
    } else {
        return {dynamic_cast<void*>(plain_object), sizeof(plain), any_bytes};
    }
}

/// Says what the block at `start`, or around it, is instead of the object's.
[[gnu::cold, gnu::noinline]] inline void report_deletion(void const* object, void const* start,
                                                         std::size_t bytes_least) noexcept {
    std::array<char, 160> reason;
    void* block = nullptr;
    std::size_t const bytes = tarn_find_block(start, &block);
    if (block == nullptr) {
        std::snprintf(reason.data(), reason.size(), "not in a block of Tarn");
    } else if (block != start) {
        std::snprintf(reason.data(), reason.size(),
                      "the object begins %zu bytes into the %zu-byte block %p: a member, an "
                      "element of an array, or an object of a region or pool?",
                      static_cast<std::size_t>(static_cast<char const*>(start) -
                                               static_cast<char const*>(block)),
                      bytes, block);
    } else {
        std::snprintf(reason.data(), reason.size(),
                      "a %zu-byte block for a type of %zu bytes: of another type?", bytes,
                      bytes_least);
    }
    report({"delete_object", "", "deletion", object, reason.data()});
}

template <class T>
constexpr void expect_deletable() noexcept {
    static_assert(!std::is_void_v<T>, "delete_object: a pointer to void does not say what to do");
    static_assert(std::is_object_v<T> && !std::is_array_v<T>,
                  "delete_object: arrays are made by new_elements() of tarn/object_pool.hpp");
    static_assert(sizeof(T) != 0, "delete_object: the type is not complete here");
    static_assert(
        !std::is_polymorphic_v<T> || std::is_final_v<T> || std::has_virtual_destructor_v<T>,
        "delete_object: the type has virtual functions but no virtual destructor, so that "
        "an object of a derived class would not be destroyed: make its destructor "
        "virtual, or the class final");
    static_assert(std::is_nothrow_destructible_v<T>,
                  "delete_object: the destructor is not accessible, or may throw");
}

[[nodiscard]] inline void* allocate_object(std::size_t bytes) {
    void* const block = tarn_malloc(bytes);
    if (block == nullptr) [[unlikely]] {
        throw std::bad_alloc{};
    }
    return block;
}

[[nodiscard]] inline void* allocate_object(std::size_t bytes, std::size_t alignment) {
    return alignment <= natural_alignment ? allocate_object(bytes)
                                          : malloc_resource()->allocate(bytes, alignment);
}

}  // namespace detail

/// An object in a block of its own. Errors: std::bad_alloc, and what the constructor throws.
template <class T, class... Arguments>
[[nodiscard]] T* new_object(Arguments&&... arguments) {
    static_assert(std::is_object_v<T> && !std::is_array_v<T>,
                  "new_object: arrays are made by new_elements() of tarn/object_pool.hpp");
    void* const block = detail::allocate_object(sizeof(T), alignof(T));
    try {
        if constexpr (std::is_constructible_v<T, Arguments...>) {
            return ::new (block) T(std::forward<Arguments>(arguments)...);
        } else {
            return ::new (block) T{std::forward<Arguments>(arguments)...};
        }
    } catch (...) {
        tarn_free(block);
        throw;
    }
}

/// Ends an object of new_object(), or of any type made in a block of tarn_malloc(), through a
/// pointer to it or to any of its bases.
template <class T>
void delete_object(T* object) noexcept {
    detail::expect_deletable<T>();
    if (object == nullptr) {
        return;
    }
    detail::whole_object const whole = detail::find_whole(object);
    tarn_block const block = tarn_block_at(whole.start);
    // 0 bytes, where no block begins, are too few for any type.
    if (block.bytes < whole.bytes_least || block.bytes > whole.bytes_most) [[unlikely]] {
        if (block.bytes != detail::any_bytes) {
            return detail::report_deletion(object, whole.start, whole.bytes_least);
        }
    }
    std::destroy_at(object);
    tarn_free_in(whole.start, block.page);
}

/// delete_object() for smart pointers. One type for all objects, so that a pointer to a derived
/// object becomes one to its base.
struct object_deleter {
    template <class T>
    void operator()(T* object) const noexcept {
        delete_object(object);
    }
};

template <class T>
using unique_object = std::unique_ptr<T, object_deleter>;

template <class T, class... Arguments>
[[nodiscard]] unique_object<T> make_unique_object(Arguments&&... arguments) {
    return unique_object<T>{new_object<T>(std::forward<Arguments>(arguments)...)};
}

/// For classes whose objects plain `new` and `delete` are to handle in the same way, whatever
/// malloc the program has:
///
///     struct shape : tarn::object_operators<shape> { virtual ~shape() = default; };
///
/// Derived classes have it from there, too; one with two such bases says whose it takes:
/// `using shape::operator new; using shape::operator delete;`. Arrays stay with the global
/// operators.
template <class T>
class object_operators {
public:
    [[nodiscard]] static void* operator new(std::size_t bytes) {
        return detail::allocate_object(bytes);
    }

    [[nodiscard]] static void* operator new(std::size_t bytes, std::align_val_t alignment) {
        return detail::allocate_object(bytes, static_cast<std::size_t>(alignment));
    }

    /// A class that has operators of its own would lose this one.
    [[nodiscard]] static void* operator new(std::size_t /*bytes*/, void* where) noexcept {
        return where;
    }

    /// What `delete` calls, before any destructor.
    static void operator delete(object_operators* object, std::destroying_delete_t) noexcept {
        delete_object(static_cast<T*>(object));
    }

    // Where a constructor throws.
    static void operator delete(void* block) noexcept { tarn_free(block); }

    static void operator delete(void* block, std::align_val_t /*alignment*/) noexcept {
        tarn_free(block);
    }

    static void operator delete(void* /*block*/, void* /*where*/) noexcept {}

protected:
    object_operators() = default;
    object_operators(object_operators const&) = default;
    object_operators& operator=(object_operators const&) = default;
    ~object_operators() = default;
};

}  // namespace tarn
