// doctor/allocators.hpp - which allocator code is, by names that only it has.
//
// Threads    pure; any thread
#pragma once

#include <span>
#include <string_view>

namespace tarn::doctor {

/// How an allocator lives with a preloaded one.
enum class allocator_kind {
    plain,      // replaces malloc when it is found first
    sanitizer,  // part of a checker that fails without its own malloc
};

struct allocator {
    std::string_view name;  // "jemalloc"
    allocator_kind kind = allocator_kind::plain;
};

inline constexpr std::string_view tarn_name = "Tarn";
inline constexpr std::string_view glibc_name = "glibc";

/// The allocator that defines one of these symbols; null when none is known.
allocator const* allocator_with_symbol(std::span<std::string_view const> symbols);

/// The allocator that is usually called so: "libjemalloc.so.2", or a path that ends thus.
allocator const* allocator_called(std::string_view library);

/// The part of a path behind its last slash.
std::string_view file_name(std::string_view path);

/// A language runtime that keeps objects in a heap of its own, beside malloc.
struct own_heap {
    std::string_view runtime;  // "Go"
    std::string_view meaning;  // what that means for a replaced malloc
};

/// By symbols that a program or library defines, and by names of sections or libraries needed.
own_heap const* own_heap_with_symbol(std::span<std::string_view const> symbols);
own_heap const* own_heap_called(std::string_view section_or_library);

}  // namespace tarn::doctor
