// malloc/step_aside.hpp - stepping aside: where a tool watches memory, the malloc that is next in
// line answers all operations, so that the tool sees every block as it was asked for.
//
// Threads    any
// Always     Tarn's own blocks, of heaps that the program makes and of operations during the search
//            for those functions, stay Tarn's: freed and resized here. All others are the next
//            malloc's. The entry points jump to its functions, so that it sees who called them.
//            A library that was itself built with a sanitizer is what is being tested, and stays.
// Errors     no malloc is next in line (a static program): Tarn answers as ever
// Cost       none where no tool watches
// Source     docs/sanitizers.md
#pragma once

#include <malloc.h>

#include <cstddef>
#include <cstdio>
#include <new>

#include "heap/diversion.hpp"
#include "control/options.hpp"

namespace tarn::impl::aside {

/// operator new and delete, plain and for arrays.
struct new_functions {
    void* (*make)(std::size_t) = nullptr;
    void* (*make_aligned)(std::size_t, std::align_val_t) = nullptr;
    void* (*make_quietly)(std::size_t, std::nothrow_t const&) = nullptr;
    void* (*make_aligned_quietly)(std::size_t, std::align_val_t, std::nothrow_t const&) = nullptr;
    void (*end)(void*) = nullptr;
    void (*end_sized)(void*, std::size_t) = nullptr;
    void (*end_aligned)(void*, std::align_val_t) = nullptr;
    void (*end_sized_aligned)(void*, std::size_t, std::align_val_t) = nullptr;
};

/// The functions of the malloc that is next in line.
struct next_in_line {
    heap::direct_answers direct{};
    void* (*reallocate)(void*, std::size_t) = nullptr;
    void (*deallocate)(void*) = nullptr;
    int (*posix_memalign)(void**, std::size_t, std::size_t) = nullptr;
    std::size_t (*malloc_usable_size)(void*) = nullptr;
    // Below: by family; all null where a function of the row is missing.
    new_functions one;
    new_functions array;
    // Each null where it is missing.
    struct mallinfo (*mallinfo)() = nullptr;
    struct mallinfo2 (*mallinfo2)() = nullptr;
    int (*malloc_info)(int, std::FILE*) = nullptr;
    void (*malloc_stats)() = nullptr;
    int (*malloc_trim)(std::size_t) = nullptr;
    int (*mallopt)(int, int) = nullptr;

    [[nodiscard]] new_functions const& of(heap::family by) const noexcept {
        return by == heap::family::new_one ? one : array;
    }
};

inline constexpr std::nothrow_t quietly{};  // std::nothrow lies in libstdc++

/// What is to answer in the place of all heaps, or null. With verbose=1 it says so. For the start.
[[nodiscard]] heap::stand_in const* choose_stand_in(control::options const& of) noexcept;

/// Whom the calling thread's operations go to; null: to Tarn. Keeps errno.
[[nodiscard]] next_in_line const* next() noexcept;

/// What of operator new is next in line; null as next(), and where there is none.
[[nodiscard]] new_functions const* next_new(heap::family by) noexcept;

}  // namespace tarn::impl::aside
