#include "platform/linux/loaded_module.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/attributes.hpp"
#include "base/errno_keeper.hpp"
#include "base/text.hpp"
#include "platform/linux/linux_os.hpp"

namespace tarn::impl::platform {

namespace {

constexpr std::size_t notes_bytes_max = 1024;

/// Some sandboxes and emulators do not let a process read itself through the system.
bool can_read_memory() noexcept {
    static constexpr char known = 'x';
    char seen = 0;
    return linux_os::read_memory(&known, &seen, 1) == 1;
}

/// Copies what is readable and returns its length.
std::size_t copy_memory(std::uintptr_t from, void* to, std::size_t bytes) noexcept {
    auto const* const source = reinterpret_cast<void const*>(from);
    std::size_t const got = linux_os::read_memory(source, to, bytes);
    if (got != 0 || can_read_memory()) {
        return got;
    }
    std::memcpy(to, source, bytes);
    return bytes;
}

/// Copies a text that ends in a zero, in steps that stay inside an OS page each.
std::size_t copy_text(std::uintptr_t from, char* to, std::size_t room) noexcept {
    constexpr std::uintptr_t step = 64;
    std::size_t copied = 0;
    while (copied < room) {
        std::size_t const piece =
            std::min<std::size_t>(step - (from + copied) % step, room - copied);
        std::size_t const got = copy_memory(from + copied, to + copied, piece);
        auto const* const end = static_cast<char const*>(std::memchr(to + copied, '\0', got));
        if (end != nullptr) {
            return static_cast<std::size_t>(end - to);
        }
        copied += got;
        if (got != piece) {
            return copied;
        }
    }
    return copied;
}

/// The file in memory: places are those of its segments.
struct memory_source {
    std::uintptr_t start;  // of the header
    std::uintptr_t base = 0;

    [[nodiscard]] bool read_header(std::uintptr_t offset, void* to, std::size_t bytes) const {
        return copy_memory(start + offset, to, bytes) == bytes;
    }

    std::size_t read_notes(ElfW(Phdr) const& segment, void* to, std::size_t bytes) const {
        return copy_memory(base + segment.p_vaddr, to, bytes);
    }
};

/// The file on disk.
struct file_source {
    int fd;

    [[nodiscard]] std::size_t read_at(std::uintptr_t offset, void* to, std::size_t bytes) const {
        auto const got = ::syscall(SYS_pread64, fd, to, bytes, offset);
        return got < 0 ? 0 : static_cast<std::size_t>(got);
    }

    [[nodiscard]] bool read_header(std::uintptr_t offset, void* to, std::size_t bytes) const {
        return read_at(offset, to, bytes) == bytes;
    }

    std::size_t read_notes(ElfW(Phdr) const& segment, void* to, std::size_t bytes) const {
        return read_at(segment.p_offset, to, bytes);
    }
};

template <class Source>
bool read_segments(Source const& source, module_identity& to) noexcept {
    ElfW(Ehdr) const& header = to.header;
    return source.read_header(0, &to.header, sizeof to.header) &&
           std::memcmp(&header.e_ident, ELFMAG, SELFMAG) == 0 &&
           header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_phnum <= to.segment_room.size() &&
           header.e_phentsize == sizeof(ElfW(Phdr)) &&
           source.read_header(header.e_phoff, to.segment_room.data(), to.segments().size_bytes());
}

bool take_build_id(unsigned char const* notes, std::size_t bytes, std::size_t alignment,
                   module_identity& to) noexcept {
    auto const padded = [&](std::size_t size) { return (size + alignment - 1) & ~(alignment - 1); };
    std::size_t at = 0;
    while (bytes - at >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        std::memcpy(&note, notes + at, sizeof note);
        at += sizeof note;
        std::size_t const name_bytes = padded(note.n_namesz);
        std::size_t const value_bytes = padded(note.n_descsz);
        if (name_bytes > bytes - at || value_bytes > bytes - at - name_bytes) {
            return false;
        }
        std::size_t const value = at + name_bytes;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof ELF_NOTE_GNU &&
            std::memcmp(notes + at, ELF_NOTE_GNU, sizeof ELF_NOTE_GNU) == 0 &&
            note.n_descsz <= to.build_id.size()) {
            std::memcpy(to.build_id.data(), notes + value, note.n_descsz);
            to.build_id_bytes = note.n_descsz;
            return true;
        }
        at = value + value_bytes;
    }
    return false;
}

template <class Source>
void read_build_id(Source const& source, module_identity& to) noexcept {
    std::array<unsigned char, notes_bytes_max> notes;
    to.build_id_bytes = 0;
    for (ElfW(Phdr) const& segment : to.segments()) {
        if (segment.p_type != PT_NOTE) {
            continue;
        }
        std::size_t const bytes = std::min<std::size_t>(segment.p_filesz, notes.size());
        std::size_t const got = source.read_notes(segment, notes.data(), bytes);
        if (take_build_id(notes.data(), got, segment.p_align == 8 ? 8 : 4, to)) {
            return;
        }
    }
}

/// True if the first segment holds the file's start, as it does in all but odd files.
bool find_base(loaded_module& of) noexcept {
    for (ElfW(Phdr) const& segment : of.identity.segments()) {
        if (segment.p_type == PT_LOAD) {
            of.base = of.start - (segment.p_vaddr & ~(linux_os::page_bytes() - 1));
            return segment.p_offset < linux_os::page_bytes();
        }
    }
    return false;
}

bool read_headers(loaded_module& of) noexcept {
    return of.start != 0 && read_segments(memory_source{.start = of.start}, of.identity) &&
           find_base(of);
}

bool find_program(void const* address, loaded_module& found) noexcept {
    found.record = nullptr;
    found.start = ::getauxval(AT_PHDR) & ~(linux_os::page_bytes() - 1);
    if (!read_headers(found)) {
        return false;
    }
    std::uintptr_t const offset = reinterpret_cast<std::uintptr_t>(address) - found.base;
    auto const segments = found.identity.segments();
    return std::any_of(segments.begin(), segments.end(), [&](ElfW(Phdr) const& segment) {
        return segment.p_type == PT_LOAD && offset - segment.p_vaddr < segment.p_memsz;
    });
}

class hasher {
public:
    void add(void const* data, std::size_t bytes) noexcept {
        auto const* const from = static_cast<unsigned char const*>(data);
        for (std::size_t i = 0; i < bytes; ++i) {
            value_ = (value_ ^ from[i]) * 0x100000001b3;  // FNV-1a
        }
    }

    [[nodiscard]] std::uint64_t value() const noexcept { return value_; }

private:
    std::uint64_t value_ = 0xcbf29ce484222325;
};

std::uint64_t fingerprint_of(loaded_module const& of) noexcept {
    hasher hash;
    module_identity const& identity = of.identity;
    hash.add(&of.start, sizeof of.start);
    hash.add(&identity.header, sizeof identity.header);
    hash.add(identity.segments().data(), identity.segments().size_bytes());
    hash.add(identity.build_id.data(), identity.build_id_bytes);
    return hash.value();
}

bool is_same(module_identity const& left, module_identity const& right) noexcept {
    if (left.build_id_bytes != right.build_id_bytes) {
        return false;
    }
    if (left.build_id_bytes != 0) {
        return std::memcmp(left.build_id.data(), right.build_id.data(), left.build_id_bytes) == 0;
    }
    return std::memcmp(&left.header, &right.header, sizeof left.header) == 0 &&
           std::memcmp(left.segments().data(), right.segments().data(),
                       left.segments().size_bytes()) == 0;
}

std::size_t read_link(char const* link, char* to, std::size_t room) noexcept {
    constexpr std::string_view deleted = " (deleted)";
    auto const got = ::syscall(SYS_readlinkat, AT_FDCWD, link, to, room);
    if (got <= 0 || *to != '/') {
        return 0;
    }
    std::string_view path{to, static_cast<std::size_t>(got)};
    if (path.ends_with(deleted)) {
        path.remove_suffix(deleted.size());
    }
    return path.size();
}

/// The kernel's name of the file that is mapped at the module's start; 0: it does not tell.
std::size_t read_mapped_path(loaded_module const& of, char* to, std::size_t room) noexcept {
    std::uintptr_t const page = linux_os::page_bytes();
    for (ElfW(Phdr) const& segment : of.identity.segments()) {
        if (segment.p_type == PT_LOAD) {
            std::uintptr_t const end =
                (of.base + segment.p_vaddr + segment.p_filesz + page - 1) & ~(page - 1);
            base::text_buffer<96> link;
            link << "/proc/self/map_files/";
            link.hexadecimal(of.start) << '-';
            link.hexadecimal(end) << '\0';
            return read_link(link.view().data(), to, room);
        }
    }
    return 0;
}

}  // namespace

bool find_module(void const* address, loaded_module& found) noexcept {
    dl_find_object about{};
    if (::_dl_find_object(const_cast<void*>(address), &about) == 0) {
        found.start = reinterpret_cast<std::uintptr_t>(about.dlfo_map_start);
        found.record = about.dlfo_link_map;
    }
    // A program without a loader is in no table of it.
    if (!read_headers(found) && !find_program(address, found)) {
        return false;
    }
    read_build_id(memory_source{.start = found.start, .base = found.base}, found.identity);
    found.fingerprint = fingerprint_of(found);
    return true;
}

std::size_t read_path(loaded_module const& of, char* to, std::size_t room) noexcept {
    link_map record{};
    auto const at = reinterpret_cast<std::uintptr_t>(of.record);
    std::size_t bytes = 0;
    if (at != 0 && copy_memory(at, &record, sizeof record) == sizeof record &&
        record.l_addr == of.base && record.l_name != nullptr) {
        bytes = copy_text(reinterpret_cast<std::uintptr_t>(record.l_name), to, room);
    }
    // The program has no name there, and a library may have one that depends on a folder since
    // left.
    if (bytes != 0 && *to == '/') {
        return bytes;
    }
    std::array<char, code_place::path_bytes_max> path;
    std::size_t known = read_mapped_path(of, path.data(), std::min(room, path.size()));
    if (known == 0 && bytes == 0) {
        known = read_link("/proc/self/exe", path.data(), std::min(room, path.size()));
    }
    if (known == 0) {
        return bytes;
    }
    std::memcpy(to, path.data(), known);
    return known;
}

int open_file_of(loaded_module const& of, char const* path) noexcept {
    int const fd = static_cast<int>(
        ::syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0));
    if (fd < 0) {
        return -1;
    }
    module_identity on_disk;
    file_source const source{.fd = fd};
    if (read_segments(source, on_disk)) {
        read_build_id(source, on_disk);
        if (is_same(of.identity, on_disk)) {
            return fd;
        }
    }
    linux_os::close_file(fd);
    return -1;
}

code_place place_of(void const* address) noexcept {
    base::errno_keeper const kept;
    code_place place;
    loaded_module module;
    if (!find_module(address, module)) {
        return place;
    }
    place.offset = reinterpret_cast<std::uintptr_t>(address) - module.base;
    place.path_bytes = read_path(module, place.path.data(), place.path.size());
    base::text_sink digits{place.build_id_digits.data(), place.build_id_digits.size()};
    for (std::size_t i = 0; i < module.identity.build_id_bytes; ++i) {
        digits.hexadecimal(module.identity.build_id[i], 2);
    }
    place.build_id_digit_count = digits.view().size();
    return place;
}

}  // namespace tarn::impl::platform
