// platform/linux/loaded_module.hpp - loaded_module: a program or library as it lies in memory.
//
// Threads    any, in signal handlers too; no lock, no allocation
// Always     what it says was read when it was found; the module may be closed at any time
// Tests      unit/platform/code_place_test.cpp
// Source     _dl_find_object: glibc's unwinder tables, which are read without a lock. Not
//            dl_iterate_phdr: its lock may be held by a thread that waits for us.
#pragma once

#include <elf.h>
#include <link.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "platform/code_place.hpp"

namespace tarn::impl::platform {

/// What two copies of a file, in memory or on disk, must have in common to be the same.
struct module_identity {
    static constexpr std::size_t segments_max = 64;

    [[nodiscard]] std::span<ElfW(Phdr) const> segments() const noexcept {
        return {segment_room.data(), header.e_phnum};
    }

    ElfW(Ehdr) header;
    std::array<ElfW(Phdr), segments_max> segment_room;
    std::array<unsigned char, code_place::build_id_bytes_max> build_id;
    std::size_t build_id_bytes = 0;  // 0: none
};

struct loaded_module {
    std::uintptr_t start = 0;          // of the first segment
    std::uintptr_t base = 0;           // where address 0 of the file lies
    std::uint64_t fingerprint = 0;     // of its place and identity
    link_map const* record = nullptr;  // the loader's, which may be gone
    module_identity identity;
};

[[nodiscard]] bool find_module(void const* address, loaded_module& found) noexcept;

/// Writes the path of the module's file, without terminator, and returns its length.
std::size_t read_path(loaded_module const& of, char* to, std::size_t room) noexcept;

/// The file at `path`, which ends in a zero, if it is what was loaded; else -1.
[[nodiscard]] int open_file_of(loaded_module const& of, char const* path) noexcept;

}  // namespace tarn::impl::platform
