// The twenty replaceable forms of operator new and delete.
//
// Compiled with exceptions, for the one place where a new_handler's exception ends in a null
// pointer. What that needs of the C++ runtime is referenced weakly: see malloc/cxx_runtime.hpp.

#include <new>

#include "tarn/tarn.h"

#include "malloc/cxx_runtime.hpp"
#include "malloc/entry.hpp"
#include "malloc/step_aside.hpp"

using tarn::impl::heap::this_thread;
namespace aside = tarn::impl::aside;
using aside::quietly;
namespace cxx_runtime = tarn::impl::cxx_runtime;
namespace heap = tarn::impl::heap;

__asm__(
    ".weak __gxx_personality_v0\n"
    ".weak __cxa_begin_catch\n"
    ".weak __cxa_end_catch\n"
    ".weak _Unwind_Resume\n"
    ".weak _ZSt9terminatev\n");

namespace {

using heap::family;

/// What a form of operator new is asked for, and by whom.
struct request {
    std::size_t bytes;
    std::size_t alignment = 0;  // 0: the usual one
    family by;
    void const* caller;
};

void* allocate(request const& asked) noexcept {
    void* const block = this_thread->try_allocate(asked.bytes);
    return block != nullptr ? block
                            : heap::allocate_for(this_thread, asked.bytes, asked.caller, asked.by);
}

/// One attempt; the heap's own slow path sets errno, which operator new leaves as it was.
void* attempt(request const& asked) noexcept {
    int const kept = errno;
    void* const block = asked.alignment <= tarn::impl::sizing::quantum
                            ? allocate(asked)
                            : heap::allocate_aligned(this_thread, asked.bytes, asked.alignment,
                                                     asked.caller, asked.by);
    errno = kept;
    return block;
}

/// [new.delete.single]: asks the new_handler for memory until there is some or it gives up.
TARN_COLD void* new_or_throw(request const& asked) {
    for (;;) {
        if (void* const block = attempt(asked)) {
            return block;
        }
        cxx_runtime::new_handler const handler = cxx_runtime::current_new_handler();
        if (handler == nullptr) {
            cxx_runtime::throw_bad_alloc();
        }
        handler();
    }
}

TARN_COLD void* new_or_null(request const& asked) noexcept {
    try {
        for (;;) {
            if (void* const block = attempt(asked)) {
                return block;
            }
            cxx_runtime::new_handler const handler = cxx_runtime::current_new_handler();
            if (handler == nullptr) {
                return nullptr;
            }
            handler();
        }
    } catch (...) {
        return nullptr;
    }
}

/// Both, or a jump to the operator new that is next in line. `alignment` 0: the usual one.
template <family By>
TARN_COLD void* new_slow(std::size_t bytes, std::size_t alignment, void const* caller) {
    if (aside::new_functions const* const next = aside::next_new(By)) {
        return alignment == 0 ? next->make(bytes)
                              : next->make_aligned(bytes, static_cast<std::align_val_t>(alignment));
    }
    return new_or_throw({.bytes = bytes, .alignment = alignment, .by = By, .caller = caller});
}

template <family By>
TARN_COLD void* nothrow_new_slow(std::size_t bytes, std::size_t alignment,
                                 void const* caller) noexcept {
    if (aside::new_functions const* const next = aside::next_new(By)) {
        return alignment == 0 ? next->make_quietly(bytes, quietly)
                              : next->make_aligned_quietly(
                                    bytes, static_cast<std::align_val_t>(alignment), quietly);
    }
    return new_or_null({.bytes = bytes, .alignment = alignment, .by = By, .caller = caller});
}

template <family By>
TARN_COLD void* new_plain_slow(std::size_t bytes) {
    if (heap::hardening.on) [[unlikely]] {
        if (void* const block = this_thread->try_allocate_hardened(bytes)) {
            return block;
        }
    }
    return new_slow<By>(bytes, 0, TARN_CALLER);
}

template <family By>
TARN_HOT void* new_plain(std::size_t bytes) {
    void* const block = this_thread->try_allocate(bytes);
    return block != nullptr ? block : new_plain_slow<By>(bytes);
}

}  // namespace

// A program may replace a few of the forms and count on the others to call them, as the standard
// says of the default versions. Weak, so that a program linked with the archive may, and that calls
// and addresses below are those of the program, where it has its own.
#define TARN_REPLACEABLE TARN_API __attribute__((weak))

TARN_REPLACEABLE void* operator new(std::size_t bytes);
TARN_REPLACEABLE void* operator new[](std::size_t bytes);
TARN_REPLACEABLE void* operator new(std::size_t bytes, std::align_val_t alignment);
TARN_REPLACEABLE void* operator new[](std::size_t bytes, std::align_val_t alignment);
TARN_REPLACEABLE void operator delete(void* block) noexcept;
TARN_REPLACEABLE void operator delete[](void* block) noexcept;
TARN_REPLACEABLE void operator delete(void* block, std::align_val_t alignment) noexcept;
TARN_REPLACEABLE void operator delete[](void* block, std::align_val_t alignment) noexcept;

// Ours in any case.
extern "C" {
TARN_HIDDEN void tarn_own_delete(void* block) noexcept;
TARN_HIDDEN void tarn_own_delete_array(void* block) noexcept;
TARN_HIDDEN void tarn_own_delete_aligned(void* block, std::align_val_t alignment) noexcept;
TARN_HIDDEN void tarn_own_delete_array_aligned(void* block, std::align_val_t alignment) noexcept;
TARN_HIDDEN void* tarn_own_new(std::size_t bytes);
TARN_HIDDEN void* tarn_own_new_array(std::size_t bytes);
TARN_HIDDEN void* tarn_own_new_aligned(std::size_t bytes, std::align_val_t alignment);
TARN_HIDDEN void* tarn_own_new_array_aligned(std::size_t bytes, std::align_val_t alignment);
}
__asm__(
    ".set tarn_own_new, _Znwm\n"
    ".set tarn_own_new_array, _Znam\n"
    ".set tarn_own_new_aligned, _ZnwmSt11align_val_t\n"
    ".set tarn_own_new_array_aligned, _ZnamSt11align_val_t\n"
    ".set tarn_own_delete, _ZdlPv\n"
    ".set tarn_own_delete_array, _ZdaPv\n"
    ".set tarn_own_delete_aligned, _ZdlPvSt11align_val_t\n"
    ".set tarn_own_delete_array_aligned, _ZdaPvSt11align_val_t\n");

namespace {

/// What a form that may not throw makes of the program's own form, which may. Ours are not asked:
/// a program without a C++ runtime has none that could catch.
template <family By, class New>
void* without_throwing(New make, bool is_ours, std::size_t bytes, std::size_t alignment,
                       void const* caller) noexcept {
    if (is_ours) {
        return nothrow_new_slow<By>(bytes, alignment, caller);
    }
    try {
        return make();
    } catch (...) {
        return nullptr;
    }
}

using plain_form = void* (*)(std::size_t);
using aligned_form = void* (*)(std::size_t, std::align_val_t);

bool scalar_is_ours() noexcept {
    plain_form const programs = &::operator new;
    return programs == tarn_own_new;
}

bool array_is_ours() noexcept {
    plain_form const programs = &::operator new[];
    return programs == tarn_own_new_array && scalar_is_ours();
}

bool aligned_is_ours() noexcept {
    aligned_form const programs = &::operator new;
    return programs == tarn_own_new_aligned;
}

bool aligned_array_is_ours() noexcept {
    aligned_form const programs = &::operator new[];
    return programs == tarn_own_new_array_aligned && aligned_is_ours();
}

using plain_delete = void (*)(void*) noexcept;
using aligned_delete = void (*)(void*, std::align_val_t) noexcept;

bool delete_is_ours() noexcept {
    plain_delete const programs = &::operator delete;
    return programs == tarn_own_delete;
}

bool delete_array_is_ours() noexcept {
    plain_delete const programs = &::operator delete[];
    return programs == tarn_own_delete_array && delete_is_ours();
}

bool aligned_delete_is_ours() noexcept {
    aligned_delete const programs = &::operator delete;
    return programs == tarn_own_delete_aligned;
}

bool aligned_delete_array_is_ours() noexcept {
    aligned_delete const programs = &::operator delete[];
    return programs == tarn_own_delete_array_aligned && aligned_delete_is_ours();
}

}  // namespace

// NOLINTBEGIN(misc-new-delete-overloads): these are the replacements
TARN_REPLACEABLE void* operator new(std::size_t bytes) { return new_plain<family::new_one>(bytes); }

TARN_REPLACEABLE void* operator new[](std::size_t bytes) {
    return scalar_is_ours() ? new_plain<family::new_array>(bytes) : ::operator new(bytes);
}

TARN_REPLACEABLE void* operator new(std::size_t bytes, std::nothrow_t const& /*tag*/) noexcept {
    return without_throwing<family::new_one>([bytes] { return ::operator new(bytes); },
                                             scalar_is_ours(), bytes, 0, TARN_CALLER);
}

TARN_REPLACEABLE void* operator new[](std::size_t bytes, std::nothrow_t const& /*tag*/) noexcept {
    return without_throwing<family::new_array>([bytes] { return ::operator new[](bytes); },
                                               array_is_ours(), bytes, 0, TARN_CALLER);
}

TARN_REPLACEABLE void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return new_slow<family::new_one>(bytes, static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_REPLACEABLE void* operator new[](std::size_t bytes, std::align_val_t alignment) {
    if (!aligned_is_ours()) {
        return ::operator new(bytes, alignment);
    }
    return new_slow<family::new_array>(bytes, static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_REPLACEABLE void* operator new(std::size_t bytes, std::align_val_t alignment,
                                    std::nothrow_t const& /*tag*/) noexcept {
    return without_throwing<family::new_one>([=] { return ::operator new(bytes, alignment); },
                                             aligned_is_ours(), bytes,
                                             static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_REPLACEABLE void* operator new[](std::size_t bytes, std::align_val_t alignment,
                                      std::nothrow_t const& /*tag*/) noexcept {
    return without_throwing<family::new_array>([=] { return ::operator new[](bytes, alignment); },
                                               aligned_array_is_ours(), bytes,
                                               static_cast<std::size_t>(alignment), TARN_CALLER);
}

TARN_REPLACEABLE void operator delete(void* block) noexcept {
    this_thread->deallocate_as<family::new_one>(block);
}

TARN_REPLACEABLE void operator delete[](void* block) noexcept {
    if (!delete_is_ours()) {
        return ::operator delete(block);
    }
    this_thread->deallocate_as<family::new_array>(block);
}

TARN_REPLACEABLE void operator delete(void* block, std::nothrow_t const& /*tag*/) noexcept {
    ::operator delete(block);
}

TARN_REPLACEABLE void operator delete[](void* block, std::nothrow_t const& /*tag*/) noexcept {
    ::operator delete[](block);
}

TARN_REPLACEABLE void operator delete(void* block, std::size_t bytes) noexcept {
    if (!delete_is_ours()) {
        return ::operator delete(block);
    }
    this_thread->deallocate_as<family::new_one>(block, bytes);
}

TARN_REPLACEABLE void operator delete[](void* block, std::size_t bytes) noexcept {
    if (!delete_array_is_ours()) {
        return ::operator delete[](block);
    }
    this_thread->deallocate_as<family::new_array>(block, bytes);
}

TARN_REPLACEABLE void operator delete(void* block, std::align_val_t alignment) noexcept {
    this_thread->deallocate_aligned<family::new_one>(block, 0, static_cast<std::size_t>(alignment));
}

TARN_REPLACEABLE void operator delete[](void* block, std::align_val_t alignment) noexcept {
    if (!aligned_delete_is_ours()) {
        return ::operator delete(block, alignment);
    }
    this_thread->deallocate_aligned<family::new_array>(block, 0,
                                                       static_cast<std::size_t>(alignment));
}

TARN_REPLACEABLE void operator delete(void* block, std::align_val_t alignment,
                                      std::nothrow_t const& /*tag*/) noexcept {
    ::operator delete(block, alignment);
}

TARN_REPLACEABLE void operator delete[](void* block, std::align_val_t alignment,
                                        std::nothrow_t const& /*tag*/) noexcept {
    ::operator delete[](block, alignment);
}

TARN_REPLACEABLE void operator delete(void* block, std::size_t bytes,
                                      std::align_val_t alignment) noexcept {
    if (!aligned_delete_is_ours()) {
        return ::operator delete(block, alignment);
    }
    this_thread->deallocate_aligned<family::new_one>(block, bytes,
                                                     static_cast<std::size_t>(alignment));
}

TARN_REPLACEABLE void operator delete[](void* block, std::size_t bytes,
                                        std::align_val_t alignment) noexcept {
    if (!aligned_delete_array_is_ours()) {
        return ::operator delete[](block, alignment);
    }
    this_thread->deallocate_aligned<family::new_array>(block, bytes,
                                                       static_cast<std::size_t>(alignment));
}

// NOLINTEND(misc-new-delete-overloads)
