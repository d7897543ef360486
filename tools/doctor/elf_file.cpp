#include "doctor/elf_file.hpp"

#include <elf.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

namespace tarn::doctor {

namespace {

/// Bytes, of which nothing is read beyond the end.
class image {
public:
    explicit image(std::span<std::byte const> bytes) : bytes_(bytes) {}

    [[nodiscard]] std::size_t size() const { return bytes_.size(); }

    /// The object at `offset`; nothing when it would end beyond the file.
    template <class T>
    [[nodiscard]] std::optional<T> at(std::uint64_t offset) const {
        static_assert(std::is_trivially_copyable_v<T>);
        if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) {
            return std::nullopt;
        }
        T value{};
        std::memcpy(&value, bytes_.data() + offset, sizeof value);
        return value;
    }

    /// The i-th object of a table at `start`.
    template <class T>
    [[nodiscard]] std::optional<T> entry(std::uint64_t start, std::uint64_t index) const {
        if (start > bytes_.size() || index > bytes_.size() / sizeof(T)) {
            return std::nullopt;
        }
        return at<T>(start + index * sizeof(T));
    }

    /// The terminated text at `offset`; nothing when no end lies in the file.
    [[nodiscard]] std::optional<std::string_view> text(std::uint64_t offset) const {
        if (offset >= bytes_.size()) {
            return std::nullopt;
        }
        auto const* const start = reinterpret_cast<char const*>(bytes_.data()) + offset;
        auto const* const end =
            static_cast<char const*>(std::memchr(start, '\0', bytes_.size() - offset));
        if (end == nullptr) {
            return std::nullopt;
        }
        return std::string_view{start, static_cast<std::size_t>(end - start)};
    }

private:
    std::span<std::byte const> bytes_;
};

constexpr unsigned char native_order =
    std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;

std::uint16_t swapped(std::uint16_t value) {
    return static_cast<std::uint16_t>(value >> 8 | value << 8);
}

elf_type type_of(std::uint16_t type) {
    return type == ET_EXEC  ? elf_type::executable
           : type == ET_DYN ? elf_type::shared
                            : elf_type::other;
}

/// Where the loader finds the tables of symbols and strings; addresses, 0 for none.
struct dynamic_tables {
    std::uint64_t symbols = 0;
    std::uint64_t strings = 0;
    std::uint64_t strings_bytes = 0;
    std::uint64_t hash = 0;
    std::uint64_t gnu_hash = 0;
};

/// Reads the parts of a 64-bit file of the native byte order.
class reader {
public:
    reader(std::span<std::byte const> bytes, elf_file& to) : image_(bytes), to_(to) {}

    void read() {
        auto const header = image_.at<Elf64_Ehdr>(0);
        if (!header) {
            damaged("its header is cut off");
            return;
        }
        read_segments(*header);
        read_dynamic();
        read_sections(*header);
    }

private:
    void damaged(std::string_view what) {
        if (to_.damage.empty()) {
            to_.damage = what;
        }
    }

    void read_segments(Elf64_Ehdr const& header) {
        if (header.e_phnum != 0 && header.e_phentsize != sizeof(Elf64_Phdr)) {
            damaged("its program headers have an unknown size");
            return;
        }
        for (std::uint64_t i = 0; i < header.e_phnum; ++i) {
            auto const segment = image_.entry<Elf64_Phdr>(header.e_phoff, i);
            if (!segment) {
                damaged("its program headers lie beyond its end");
                return;
            }
            if (segment->p_type == PT_LOAD) {
                loaded_.push_back(*segment);
            } else if (segment->p_type == PT_DYNAMIC) {
                dynamic_ = *segment;
                to_.has_dynamic = true;
            } else if (segment->p_type == PT_INTERP) {
                to_.has_interpreter = true;
                take_text(segment->p_offset, to_.interpreter, "the name of its loader");
            }
        }
    }

    void take_text(std::uint64_t offset, std::string& to, std::string_view what) {
        auto const text = image_.text(offset);
        if (text) {
            to = *text;
        } else {
            damaged(fmt::format("{} lies beyond its end", what));
        }
    }

    /// Where in the file the byte lies that will be at `address`.
    [[nodiscard]] std::optional<std::uint64_t> offset_of(std::uint64_t address) const {
        for (Elf64_Phdr const& each : loaded_) {
            if (address >= each.p_vaddr && address - each.p_vaddr < each.p_filesz) {
                return address - each.p_vaddr + each.p_offset;
            }
        }
        return std::nullopt;
    }

    void read_dynamic() {
        if (!to_.has_dynamic) {
            return;
        }
        std::vector<Elf64_Dyn> entries;
        // Bounded by the file: entry() ends.
        for (std::uint64_t i = 0;; ++i) {
            auto const entry = image_.entry<Elf64_Dyn>(dynamic_.p_offset, i);
            if (!entry || i >= dynamic_.p_filesz / sizeof(Elf64_Dyn)) {
                damaged("its dynamic section has no end");
                break;
            }
            if (entry->d_tag == DT_NULL) {
                break;
            }
            entries.push_back(*entry);
        }
        for (Elf64_Dyn const& each : entries) {
            find_table(each);
        }
        auto const strings = offset_of(tables_.strings);
        if (!strings) {
            if (!entries.empty()) {
                damaged("its dynamic strings lie nowhere");
            }
            return;
        }
        for (Elf64_Dyn const& each : entries) {
            read_dynamic_text(each, *strings);
        }
        read_dynamic_symbols(*strings);
    }

    void find_table(Elf64_Dyn const& entry) {
        std::uint64_t const value = entry.d_un.d_val;
        switch (entry.d_tag) {
            case DT_SYMTAB:
                tables_.symbols = value;
                break;
            case DT_STRTAB:
                tables_.strings = value;
                break;
            case DT_STRSZ:
                tables_.strings_bytes = value;
                break;
            case DT_HASH:
                tables_.hash = value;
                break;
            case DT_GNU_HASH:
                tables_.gnu_hash = value;
                break;
            case DT_FLAGS_1:
                to_.is_pie = (value & DF_1_PIE) != 0;
                break;
            default:
                break;
        }
    }

    void read_dynamic_text(Elf64_Dyn const& entry, std::uint64_t strings) {
        std::string text;
        auto const take = [&](std::string_view what) {
            if (entry.d_un.d_val < tables_.strings_bytes) {
                take_text(strings + entry.d_un.d_val, text, what);
            } else {
                damaged(fmt::format("{} lies outside of its strings", what));
            }
            return !text.empty();
        };
        if (entry.d_tag == DT_NEEDED && take("the name of a library it needs")) {
            to_.needed.push_back(std::move(text));
        } else if (entry.d_tag == DT_SONAME && take("its own name")) {
            to_.soname = std::move(text);
        } else if (entry.d_tag == DT_RPATH && take("its RPATH")) {
            to_.rpath = std::move(text);
        } else if (entry.d_tag == DT_RUNPATH && take("its RUNPATH")) {
            to_.runpath = std::move(text);
        }
    }

    /// How many dynamic symbols there are: only the hash tables know.
    [[nodiscard]] std::uint64_t dynamic_symbol_count() const {
        if (tables_.hash != 0) {
            auto const hash = offset_of(tables_.hash);
            auto const chains = hash ? image_.entry<std::uint32_t>(*hash, 1) : std::nullopt;
            return chains.value_or(0);
        }
        return tables_.gnu_hash == 0 ? 0 : gnu_symbol_count();
    }

    /// The last chain of the table ends with the last symbol. Without any defined symbol, the
    /// table's first index is one past the last.
    [[nodiscard]] std::uint64_t gnu_symbol_count() const {
        struct gnu_hash_header {
            std::uint32_t buckets;
            std::uint32_t first_symbol;
            std::uint32_t bloom_words;
            std::uint32_t bloom_shift;
        };

        auto const start = offset_of(tables_.gnu_hash);
        auto const header = start ? image_.at<gnu_hash_header>(*start) : std::nullopt;
        if (!header) {
            return 0;
        }
        std::uint64_t const buckets =
            *start + sizeof *header + std::uint64_t{header->bloom_words} * sizeof(std::uint64_t);
        std::uint64_t const chains =
            buckets + std::uint64_t{header->buckets} * sizeof(std::uint32_t);
        std::uint64_t last = 0;
        for (std::uint64_t i = 0; i < header->buckets; ++i) {
            auto const bucket = image_.entry<std::uint32_t>(buckets, i);
            if (!bucket) {
                return 0;
            }
            last = std::max<std::uint64_t>(last, *bucket);
        }
        if (last < header->first_symbol) {
            return header->first_symbol;
        }
        // Bounded by the file: entry() ends.
        for (;; ++last) {
            auto const link = image_.entry<std::uint32_t>(chains, last - header->first_symbol);
            if (!link) {
                return 0;
            }
            if ((*link & 1U) != 0) {
                return last + 1;
            }
        }
    }

    void read_dynamic_symbols(std::uint64_t strings) {
        auto const symbols = offset_of(tables_.symbols);
        if (!symbols) {
            return;  // a static-pie may have none
        }
        std::uint64_t const count = dynamic_symbol_count();
        if (count == 0) {
            damaged("the number of its dynamic symbols can't be read");
        }
        for (std::uint64_t i = 1; i < count; ++i) {  // the first is a placeholder
            auto const symbol = image_.entry<Elf64_Sym>(*symbols, i);
            auto const name = symbol && symbol->st_name < tables_.strings_bytes
                                  ? image_.text(strings + symbol->st_name)
                                  : std::nullopt;
            if (!name) {
                damaged("a dynamic symbol lies beyond its end");
                return;
            }
            if (symbol->st_shndx == SHN_UNDEF) {
                to_.imported.push_back(*name);
            } else if (is_visible(*symbol)) {
                to_.exported.push_back(*name);
            }
        }
    }

    static bool is_visible(Elf64_Sym const& symbol) {
        auto const visibility = ELF64_ST_VISIBILITY(symbol.st_other);
        return ELF64_ST_BIND(symbol.st_info) != STB_LOCAL && visibility != STV_HIDDEN &&
               visibility != STV_INTERNAL;
    }

    /// Sections are for tools: a file whose sections make no sense runs all the same.
    void read_sections(Elf64_Ehdr const& header) {
        auto const names = image_.entry<Elf64_Shdr>(header.e_shoff, header.e_shstrndx);
        if (header.e_shnum == 0 || header.e_shentsize != sizeof(Elf64_Shdr) || !names) {
            return;
        }
        for (std::uint64_t i = 0; i < header.e_shnum; ++i) {
            auto const section = image_.entry<Elf64_Shdr>(header.e_shoff, i);
            if (!section) {
                return;
            }
            auto const name = image_.text(names->sh_offset + section->sh_name);
            to_.sections.emplace_back(name.value_or(""));
            if (section->sh_type == SHT_SYMTAB) {
                read_symbol_table(header, *section);
            }
        }
    }

    void read_symbol_table(Elf64_Ehdr const& header, Elf64_Shdr const& table) {
        auto const strings = image_.entry<Elf64_Shdr>(header.e_shoff, table.sh_link);
        if (!strings) {
            return;
        }
        to_.has_symbol_table = true;
        for (std::uint64_t i = 1; i < table.sh_size / sizeof(Elf64_Sym); ++i) {
            auto const symbol = image_.entry<Elf64_Sym>(table.sh_offset, i);
            auto const name =
                symbol ? image_.text(strings->sh_offset + symbol->st_name) : std::nullopt;
            if (!name) {
                return;
            }
            auto const type = ELF64_ST_TYPE(symbol->st_info);
            bool const has_code_or_data = type == STT_FUNC || type == STT_GNU_IFUNC ||
                                          type == STT_OBJECT || type == STT_NOTYPE;
            if (symbol->st_shndx != SHN_UNDEF && has_code_or_data && !name->empty()) {
                to_.internal.push_back(*name);
            }
        }
    }

    image image_;
    elf_file& to_;
    std::vector<Elf64_Phdr> loaded_;
    Elf64_Phdr dynamic_{};
    dynamic_tables tables_;
};

}  // namespace

std::uint16_t own_machine() {
#if defined(__x86_64__)
    return EM_X86_64;
#elif defined(__aarch64__)
    return EM_AARCH64;
#elif defined(__riscv)
    return EM_RISCV;
#else
    return EM_NONE;
#endif
}

std::string machine_name(std::uint16_t machine) {
    constexpr std::array names{
        std::pair{EM_X86_64, "x86-64"},      std::pair{EM_386, "x86"},
        std::pair{EM_AARCH64, "AArch64"},    std::pair{EM_ARM, "ARM"},
        std::pair{EM_RISCV, "RISC-V"},       std::pair{EM_PPC64, "PowerPC 64"},
        std::pair{EM_S390, "s390"},          std::pair{EM_MIPS, "MIPS"},
        std::pair{EM_LOONGARCH, "LoongArch"}};
    for (auto const& [number, name] : names) {
        if (number == machine) {
            return name;
        }
    }
    return fmt::format("machine {}", machine);
}

bool is_readable(elf_file const& file) {
    return file.bits == 64 && file.machine == own_machine() &&
           file.is_little_endian == (native_order == ELFDATA2LSB);
}

std::optional<elf_file> read_elf(std::span<std::byte const> bytes) {
    image const whole{bytes};
    auto const ident = whole.at<std::array<unsigned char, EI_NIDENT>>(0);
    if (!ident || std::memcmp(ident->data(), ELFMAG, SELFMAG) != 0) {
        return std::nullopt;
    }
    elf_file file;
    file.bits = (*ident)[EI_CLASS] == ELFCLASS64 ? 64 : (*ident)[EI_CLASS] == ELFCLASS32 ? 32 : 0;
    file.is_little_endian = (*ident)[EI_DATA] != ELFDATA2MSB;
    // These two lie at the same place in files of either class.
    auto type = whole.at<Elf64_Half>(offsetof(Elf64_Ehdr, e_type));
    auto machine = whole.at<Elf64_Half>(offsetof(Elf64_Ehdr, e_machine));
    if (!type || !machine) {
        file.damage = "its header is cut off";
        return file;
    }
    bool const is_native = (*ident)[EI_DATA] == native_order;
    file.type = type_of(is_native ? *type : swapped(*type));
    file.machine = is_native ? *machine : swapped(*machine);
    if (is_readable(file)) {
        reader{bytes, file}.read();
    }
    return file;
}

}  // namespace tarn::doctor
