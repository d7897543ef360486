// doctor/elf_file.hpp - what an ELF file says to the dynamic loader and to us.
//
// Threads    pure; any thread
// Always     any bytes may be given: whatever they claim is checked against their end. What could
//            not be read is left out, and `damage` says what that was.
// Lifetime   names of symbols are views into the bytes given
// Cost       one pass over the symbol tables
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tarn::doctor {

enum class elf_type : std::uint8_t {
    executable,  // at fixed addresses
    shared,      // a library, or an executable that can lie anywhere
    other        // object file, core dump
};

struct elf_file {
    unsigned bits = 0;  // 32 or 64
    bool is_little_endian = true;
    std::uint16_t machine = 0;  // EM_X86_64, ...
    elf_type type = elf_type::other;

    // Read only where is_readable(): of a file for this machine's kind of process.
    bool has_interpreter = false;
    std::string interpreter;
    bool has_dynamic = false;
    bool is_pie = false;  // marked as a position-independent executable
    std::string soname;
    std::string rpath;
    std::string runpath;
    std::vector<std::string> needed;
    std::vector<std::string_view> exported;  // defined for others to find
    std::vector<std::string_view> imported;  // expected from others
    std::vector<std::string_view> internal;  // defined; in the table that strip removes
    bool has_symbol_table = false;           // that table is there
    std::vector<std::string> sections;       // names

    std::string damage;  // empty: all of it could be read
};

/// The machine that this program was built for.
std::uint16_t own_machine();

/// "x86-64", "AArch64", "machine 243".
std::string machine_name(std::uint16_t machine);

/// Whether a process of this program's own kind could load the file.
bool is_readable(elf_file const& file);

/// Nothing: these bytes are no ELF file.
std::optional<elf_file> read_elf(std::span<std::byte const> bytes);

}  // namespace tarn::doctor
