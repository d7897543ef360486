// platform/symbols.hpp - describe_calls(): function, file and line of return addresses.
//
// Debug information is read by GCC's libbacktrace, from the module's own file or a separate one
// (.build-id, .gnu_debuglink), compressed or not; without any, the symbol table gives the function.
// C++ names are made readable. A file that is not what was loaded (deleted, replaced) is not read.
//
// Threads    any, in signal handlers too. Takes no lock of the program or the loader. One thread at
//            a time looks up; others wait, `wait_ms_max` at most, and then get the plain form.
// Always     Allocates by mmap alone. Lookups run in a process of their own that shares our memory
//            (linux/guarded_call.hpp): what libbacktrace does with a damaged file ends there, and
//            so does what takes longer than `lookup_ms_max`. Keeps errno.
// Cost       The first call into a module reads the tables of its file: some ms, seconds where
//            debug information fills gigabytes. Small ones are kept (`kept_bytes_max`).
// Errors     Each address is described at least by its place; what else is unknown is empty or 0
// Source     docs/design/symbols.md
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "platform/code_place.hpp"

namespace tarn::impl::platform {

inline constexpr std::uint32_t lookup_ms_max = 10'000;
inline constexpr std::uint32_t wait_ms_max = 2'000;
inline constexpr std::size_t kept_bytes_max = std::size_t{32} << 20;

/// A function in the source of which the call is part: one that was compiled into another, or the
/// one that stands in the file.
struct source_frame {
    std::size_t call = 0;  // which of the addresses
    void const* return_address = nullptr;
    code_place const* place = nullptr;  // of the address
    std::string_view function = {};
    std::string_view file = {};
    unsigned line = 0;
    bool is_inlined = false;  // the next frame is its caller, in the same call
};

/// Refers to a function object that takes a source_frame const& and does not throw.
class frame_visitor {
public:
    template <class Function>
    explicit frame_visitor(Function& function) noexcept
        : object_{&function}, call_{[](void* object, source_frame const& frame) noexcept {
              (*static_cast<Function*>(object))(frame);
          }} {}

    void operator()(source_frame const& frame) const noexcept { call_(object_, frame); }

private:
    void* object_;
    void (*call_)(void* object, source_frame const& frame) noexcept;
};

/// Calls `visit` for each source frame, innermost first, once at least for each address. What is
/// looked up is the call, that is, the byte before each address. Texts live during the visit, which
/// must not describe calls itself.
void describe_calls(std::span<void const* const> return_addresses, frame_visitor visit) noexcept;

/// Gives back the tables that were kept; files are read anew at the next call.
void release_symbols() noexcept;

}  // namespace tarn::impl::platform
