// doctor/elf_image.hpp - makes small ELF files in memory, for tests to read and to damage.
#pragma once

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "doctor/elf_file.hpp"

namespace tarn::test {

struct image_symbol {
    std::string name;
    bool is_defined = true;
    unsigned char binding = STB_GLOBAL;
    unsigned char visibility = STV_DEFAULT;
};

/// What the file shall say. Addresses are offsets: one segment holds all of it.
struct image_plan {
    std::uint16_t type = ET_DYN;
    std::string interpreter = "/lib64/ld-linux-x86-64.so.2";
    std::vector<std::string> needed;
    std::string soname;
    std::string runpath;
    std::uint64_t flags_1 = DF_1_PIE;
    std::vector<image_symbol> dynamic_symbols;
    std::vector<image_symbol> symbols;  // of the table that strip removes; empty: no such table
    bool has_dynamic = true;
    bool has_gnu_hash = false;  // instead of the old table
};

class image_writer {
public:
    static std::vector<std::byte> write(image_plan const& plan) {
        image_writer writer;
        writer.fill(plan);
        return writer.bytes_;
    }

private:
    template <class T>
    std::uint64_t append(T const& value) {
        auto const from = std::as_bytes(std::span{&value, 1});
        bytes_.insert(bytes_.end(), from.begin(), from.end());
        return bytes_.size() - sizeof value;
    }

    std::uint64_t append_text(std::string const& text) {
        auto const from = std::as_bytes(std::span{text.c_str(), text.size() + 1});
        bytes_.insert(bytes_.end(), from.begin(), from.end());
        bytes_.resize((bytes_.size() + 7) / 8 * 8);
        return bytes_.size();
    }

    template <class T>
    void put(std::uint64_t at, T const& value) {
        std::memcpy(bytes_.data() + at, &value, sizeof value);
    }

    static std::uint32_t add(std::string& table, std::string const& text) {
        auto const at = static_cast<std::uint32_t>(table.size());
        table += text + '\0';
        return at;
    }

    static Elf64_Sym symbol_of(image_symbol const& from, std::uint32_t name) {
        Elf64_Sym symbol{};
        symbol.st_name = name;
        symbol.st_info = static_cast<unsigned char>(ELF64_ST_INFO(from.binding, STT_FUNC));
        symbol.st_other = from.visibility;
        symbol.st_shndx = from.is_defined ? Elf64_Section{1} : Elf64_Section{SHN_UNDEF};
        return symbol;
    }

    void fill(image_plan const& plan) {
        std::uint64_t const header = append(Elf64_Ehdr{});
        std::uint64_t const segments = append(Elf64_Phdr{});
        append(Elf64_Phdr{});
        append(Elf64_Phdr{});
        std::uint64_t const interpreter = bytes_.size();
        append_text(plan.interpreter);
        Elf64_Phdr dynamic = write_dynamic(plan);
        Elf64_Ehdr file = write_sections(plan);
        Elf64_Phdr load{};
        load.p_type = PT_LOAD;
        load.p_filesz = load.p_memsz = bytes_.size();
        Elf64_Phdr name{};
        name.p_type = plan.interpreter.empty() ? PT_NULL : PT_INTERP;
        name.p_offset = name.p_vaddr = interpreter;
        name.p_filesz = plan.interpreter.size() + 1;
        put(segments, load);
        put(segments + sizeof load, dynamic);
        put(segments + 2 * sizeof load, name);
        std::memcpy(file.e_ident, ELFMAG, SELFMAG);
        file.e_ident[EI_CLASS] = ELFCLASS64;
        file.e_ident[EI_DATA] = ELFDATA2LSB;
        file.e_ident[EI_VERSION] = EV_CURRENT;
        file.e_type = plan.type;
        file.e_machine = doctor::own_machine();
        file.e_phoff = segments;
        file.e_phentsize = sizeof(Elf64_Phdr);
        file.e_phnum = 3;
        put(header, file);
    }

    Elf64_Phdr write_dynamic(image_plan const& plan) {
        Elf64_Phdr segment{};
        if (!plan.has_dynamic) {
            return segment;
        }
        std::string strings(1, '\0');
        std::vector<Elf64_Dyn> entries;
        auto const entry = [&entries](Elf64_Sxword tag, std::uint64_t value) {
            Elf64_Dyn each{};
            each.d_tag = tag;
            each.d_un.d_val = value;
            entries.push_back(each);
        };
        for (std::string const& name : plan.needed) {
            entry(DT_NEEDED, add(strings, name));
        }
        if (!plan.soname.empty()) {
            entry(DT_SONAME, add(strings, plan.soname));
        }
        if (!plan.runpath.empty()) {
            entry(DT_RUNPATH, add(strings, plan.runpath));
        }
        entry(DT_FLAGS_1, plan.flags_1);
        entry(DT_SYMTAB, bytes_.size());
        append(Elf64_Sym{});
        for (image_symbol const& each : plan.dynamic_symbols) {
            append(symbol_of(each, add(strings, each.name)));
        }
        auto const count = static_cast<std::uint32_t>(plan.dynamic_symbols.size() + 1);
        entry(plan.has_gnu_hash ? Elf64_Sxword{DT_GNU_HASH} : Elf64_Sxword{DT_HASH}, bytes_.size());
        if (plan.has_gnu_hash) {
            write_gnu_hash(count);
        } else {
            append(std::uint32_t{1});
            append(count);
        }
        entry(DT_STRTAB, bytes_.size());
        entry(DT_STRSZ, strings.size());
        append_text(strings);
        entry(DT_NULL, 0);
        segment.p_type = PT_DYNAMIC;
        segment.p_offset = segment.p_vaddr = bytes_.size();
        segment.p_filesz = segment.p_memsz = entries.size() * sizeof(Elf64_Dyn);
        for (Elf64_Dyn const& each : entries) {
            append(each);
        }
        return segment;
    }

    /// One bucket, one word of the filter, one chain from the first symbol to the last.
    void write_gnu_hash(std::uint32_t count) {
        bool const is_empty = count == 1;
        append(std::uint32_t{1});
        append(std::uint32_t{1});
        append(std::uint32_t{1});
        append(std::uint32_t{0});
        append(std::uint64_t{0});
        append(std::uint32_t{is_empty ? 0U : 1U});
        for (std::uint32_t i = 1; i < count; ++i) {
            append(std::uint32_t{i + 1 == count ? 1U : 2U});
        }
        bytes_.resize((bytes_.size() + 7) / 8 * 8);
    }

    /// Returns a header that knows the sections only.
    Elf64_Ehdr write_sections(image_plan const& plan) {
        Elf64_Ehdr file{};
        if (plan.symbols.empty()) {
            return file;
        }
        std::string strings(1, '\0');
        Elf64_Shdr table{};
        table.sh_type = SHT_SYMTAB;
        table.sh_offset = bytes_.size();
        table.sh_link = 2;
        append(Elf64_Sym{});
        for (image_symbol const& each : plan.symbols) {
            append(symbol_of(each, add(strings, each.name)));
        }
        table.sh_size = bytes_.size() - table.sh_offset;
        table.sh_name = add(strings, ".symtab");
        Elf64_Shdr text{};
        text.sh_type = SHT_STRTAB;
        text.sh_name = add(strings, ".strtab");
        text.sh_offset = bytes_.size();
        append_text(strings);
        file.e_shoff = append(Elf64_Shdr{});
        append(table);
        append(text);
        file.e_shentsize = sizeof(Elf64_Shdr);
        file.e_shnum = 3;
        file.e_shstrndx = 2;
        return file;
    }

    std::vector<std::byte> bytes_;
};

}  // namespace tarn::test
