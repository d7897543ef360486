// platform/code_place.hpp - place_of(): in which file an address of code lies, and where in it.
//
// Threads    any, in signal handlers too; no lock, no allocation. Keeps errno.
// Always     needs no debug information. Memory that may be gone or damaged (a library closed
//            meanwhile, the loader's records on a damaged heap) is read through the system, which
//            does not fault. Where the system does not allow that, it is read directly.
// Cost       some 10 system calls
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn::impl::platform {

struct code_place {
    static constexpr std::size_t path_bytes_max = 1024;
    static constexpr std::size_t build_id_bytes_max = 32;

    /// Empty: in no file that the loader knows. Absolute where that can be told; longer ones are
    /// cut.
    [[nodiscard]] std::string_view module() const noexcept { return {path.data(), path_bytes}; }

    /// Hexadecimal; empty: the file has none.
    [[nodiscard]] std::string_view build_id() const noexcept {
        return {build_id_digits.data(), build_id_digit_count};
    }

    std::uintptr_t offset = 0;  // address, counted as in the file's program headers and symbols
    std::size_t path_bytes = 0;
    std::size_t build_id_digit_count = 0;
    std::array<char, path_bytes_max> path;                     // unset beyond path_bytes
    std::array<char, 2 * build_id_bytes_max> build_id_digits;  // likewise
};

[[nodiscard]] code_place place_of(void const* address) noexcept;

}  // namespace tarn::impl::platform
