#include "platform/backtrace/island.hpp"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstring>

#include TARN_BACKTRACE_HEADER

// Compiled without builtins and sanitizers: functions below define what compilers make calls of.

namespace {

struct range {
    char* start = nullptr;
    std::size_t bytes = 0;
    bool is_file = false;
};

struct known_file {
    std::uint64_t key = 0;
    void* state = nullptr;  // null: it can't be read
};

constexpr std::size_t files_max = 64;
constexpr std::size_t ranges_max = 2048;
constexpr std::size_t chunk_bytes = std::size_t{1} << 20;
constexpr std::size_t small_bytes_max = chunk_bytes / 4;
// A guess: the tables of a program with 2 GiB of debug information take less.
constexpr std::size_t memory_bytes_max = std::size_t{1} << 29;

constinit std::array<range, ranges_max> ranges{};
constinit std::size_t range_count = 0;  // used ones lie below; may have gaps
constinit std::array<known_file, files_max> files{};
constinit std::size_t file_count = 0;
constinit std::size_t memory_bytes = 0;
constinit char* chunk = nullptr;
constinit std::size_t chunk_left = 0;
constinit tarn_symbols_query const* current = nullptr;

std::size_t page_bytes() noexcept { return ::getauxval(AT_PAGESZ); }

std::size_t round_up(std::size_t bytes) noexcept {
    std::size_t const page = page_bytes();
    return (bytes + page - 1) / page * page;
}

range* find_range(char const* start) noexcept {
    for (std::size_t i = 0; i < range_count; ++i) {
        if (ranges[i].start == start) {
            return &ranges[i];
        }
    }
    return nullptr;
}

void* map(std::size_t bytes, int flags, int fd, off_t offset) noexcept {
    range* slot = find_range(nullptr);
    if (slot == nullptr && range_count < ranges_max) {
        slot = &ranges[range_count++];
    }
    if (slot == nullptr) {
        return MAP_FAILED;
    }
    long const got = ::syscall(SYS_mmap, nullptr, bytes,
                               fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ, flags, fd, offset);
    if (got == -1) {
        return MAP_FAILED;
    }
    // In this order: whoever is killed between the two leaves a range too many, not one too few.
    *slot = {.start = reinterpret_cast<char*>(got), .bytes = bytes, .is_file = fd >= 0};
    return slot->start;
}

void* map_memory(std::size_t bytes) noexcept {
    if (bytes > memory_bytes_max - memory_bytes) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void* const got = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory_bytes += got == MAP_FAILED ? 0 : bytes;
    return got;
}

/// Small pieces come from chunks: a mapping for each would be thousands.
void* take_memory(std::size_t bytes) noexcept {
    bytes = round_up(bytes);
    if (bytes > small_bytes_max) {
        return map_memory(bytes);
    }
    if (chunk_left < bytes) {
        void* const fresh = map_memory(chunk_bytes);
        if (fresh == MAP_FAILED) {
            return MAP_FAILED;
        }
        chunk = static_cast<char*>(fresh);
        chunk_left = chunk_bytes;
    }
    char* const taken = chunk;
    chunk += bytes;
    chunk_left -= bytes;
    return taken;
}

/// Nothing beyond the file's last page: reading there is fatal.
void* map_file(std::size_t bytes, int fd, off_t offset) noexcept {
    struct stat about {};

    if (::syscall(SYS_fstat, fd, &about) != 0 || offset < 0 || about.st_size <= 0) {
        return MAP_FAILED;
    }
    std::size_t const end = round_up(static_cast<std::size_t>(about.st_size));
    if (static_cast<std::size_t>(offset) > end || bytes > end - static_cast<std::size_t>(offset)) {
        errno = EIO;
        return MAP_FAILED;
    }
    return map(bytes, MAP_PRIVATE, fd, offset);
}

bool starts_with(char const* text, char const* start) noexcept {
    while (*start != '\0') {
        if (*text++ != *start++) {
            return false;
        }
    }
    return true;
}

void drop_error(void* /*data*/, char const* /*message*/, int /*number*/) {}

int pass_source(void* data, std::uintptr_t /*pc*/, char const* path, int line,
                char const* function) {
    auto const& query = *static_cast<tarn_symbols_query const*>(data);
    if (function != nullptr || path != nullptr) {
        query.source(query.context, function, path, line > 0 ? static_cast<unsigned>(line) : 0);
    }
    return 0;
}

void pass_symbol(void* data, std::uintptr_t /*pc*/, char const* name, std::uintptr_t /*value*/,
                 std::uintptr_t /*bytes*/) {
    auto const& query = *static_cast<tarn_symbols_query const*>(data);
    if (name != nullptr) {
        query.symbol(query.context, name);
    }
}

}  // namespace

// What the archives call, under libc's names; hidden, and local once the island is linked.
#define TARN_HOOK(name) __asm__(#name) __attribute__((visibility("hidden"), used))

extern "C" {

// libstdc++'s: calls `write` with pieces of text. 0: done.
int tarn_demangle_with(char const* name, void (*write)(char const*, std::size_t, void*),
                       void* context) __asm__("__gcclibcxx_demangle_callback");

void* tarn_hook_mmap(void* at, std::size_t bytes, int protection, int flags, int fd, off_t offset)
    TARN_HOOK(mmap);
int tarn_hook_munmap(void* start, std::size_t bytes) TARN_HOOK(munmap);
int tarn_hook_open(char const* path, int flags, ...) TARN_HOOK(open);
int tarn_hook_close(int fd) TARN_HOOK(close);
int tarn_hook_fcntl(int fd, int command, ...) TARN_HOOK(fcntl);
int tarn_hook_fstat(int fd, struct stat* about) TARN_HOOK(fstat);
int tarn_hook_lstat(char const* path, struct stat* about) TARN_HOOK(lstat);
ssize_t tarn_hook_readlink(char const* path, char* to, std::size_t bytes) TARN_HOOK(readlink);
int tarn_hook_getpagesize() TARN_HOOK(getpagesize);
int tarn_hook_dl_iterate_phdr(int (*visit)(dl_phdr_info*, std::size_t, void*), void* data)
    TARN_HOOK(dl_iterate_phdr);
int tarn_hook_error_text(char* to, std::size_t bytes, char const* format, ...) TARN_HOOK(snprintf);
int tarn_hook_number_text(char* to, char const* format, ...) TARN_HOOK(sprintf);
void* tarn_hook_realloc(void* ptr, std::size_t bytes) TARN_HOOK(realloc);
void tarn_hook_free(void* ptr) TARN_HOOK(free);
char* tarn_hook_strrchr(char const* text, int wanted) TARN_HOOK(strrchr);
int tarn_hook_strncmp(char const* left, char const* right, std::size_t bytes) TARN_HOOK(strncmp);

void* tarn_hook_mmap(void* /*at*/, std::size_t bytes, int /*protection*/, int /*flags*/, int fd,
                     off_t offset) {
    return fd < 0 ? take_memory(bytes) : map_file(bytes, fd, offset);
}

int tarn_hook_munmap(void* start, std::size_t bytes) {
    range* const found = find_range(static_cast<char const*>(start));
    // A piece of a chunk: libbacktrace then keeps it for its next need.
    if (found == nullptr || found->bytes != round_up(bytes)) {
        errno = EINVAL;
        return -1;
    }
    memory_bytes -= found->is_file ? 0 : bytes;
    *found = {};
    return static_cast<int>(::syscall(SYS_munmap, start, bytes));
}

int tarn_hook_open(char const* path, int /*flags*/, ...) {
    if (current != nullptr && std::strcmp(path, current->path) == 0) {
        return static_cast<int>(::syscall(SYS_fcntl, current->fd, F_DUPFD_CLOEXEC, 0));
    }
    // Guesses of libbacktrace at the program's file: we know better.
    if (*path == '\0' || starts_with(path, "/proc/")) {
        errno = ENOENT;
        return -1;
    }
    int const fd = static_cast<int>(
        ::syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0));

    struct stat about {};

    if (fd >= 0 && (::syscall(SYS_fstat, fd, &about) != 0 || !S_ISREG(about.st_mode))) {
        ::syscall(SYS_close, fd);
        errno = ENOENT;
        return -1;
    }
    return fd;
}

int tarn_hook_close(int fd) { return static_cast<int>(::syscall(SYS_close, fd)); }

int tarn_hook_fcntl(int /*fd*/, int /*command*/, ...) { return 0; }  // FD_CLOEXEC is set

int tarn_hook_fstat(int fd, struct stat* about) {
    return static_cast<int>(::syscall(SYS_fstat, fd, about));
}

int tarn_hook_lstat(char const* path, struct stat* about) {
    return static_cast<int>(::syscall(SYS_newfstatat, AT_FDCWD, path, about, AT_SYMLINK_NOFOLLOW));
}

ssize_t tarn_hook_readlink(char const* path, char* to, std::size_t bytes) {
    return ::syscall(SYS_readlinkat, AT_FDCWD, path, to, bytes);
}

int tarn_hook_getpagesize() { return static_cast<int>(page_bytes()); }

int tarn_hook_dl_iterate_phdr(int (*visit)(dl_phdr_info*, std::size_t, void*), void* data) {
    if (current == nullptr) {
        return 0;
    }
    dl_phdr_info about{};
    about.dlpi_addr = current->base;
    about.dlpi_name = "";  // the file that is open already
    return visit(&about, sizeof about, data);
}

// Texts of errors, which nobody reads.
int tarn_hook_error_text(char* to, std::size_t bytes, char const* /*format*/, ...) {
    if (bytes != 0) {
        *to = '\0';
    }
    return 0;
}

// The demangler's one format is %d.
int tarn_hook_number_text(char* to, char const* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    int const number = va_arg(arguments, int);
    va_end(arguments);
    std::array<char, 16> digits;  // backwards
    std::size_t count = 0;
    unsigned left = number < 0 ? 0U - static_cast<unsigned>(number) : static_cast<unsigned>(number);
    do {
        digits[count++] = static_cast<char>('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (number < 0) {
        digits[count++] = '-';
    }
    for (std::size_t i = 0; i < count; ++i) {
        to[i] = digits[count - 1 - i];
    }
    to[count] = '\0';
    return static_cast<int>(count);
}

// Of __cxa_demangle, which comes along and is never called.
void* tarn_hook_realloc(void* /*ptr*/, std::size_t /*bytes*/) { return nullptr; }

void tarn_hook_free(void* /*ptr*/) {}

char* tarn_hook_strrchr(char const* text, int wanted) {
    char const* found = nullptr;
    do {
        if (*text == static_cast<char>(wanted)) {
            found = text;
        }
    } while (*text++ != '\0');
    return const_cast<char*>(found);
}

int tarn_hook_strncmp(char const* left, char const* right, std::size_t bytes) {
    for (; bytes != 0; --bytes, ++left, ++right) {
        int const difference =
            static_cast<unsigned char>(*left) - static_cast<unsigned char>(*right);
        if (difference != 0 || *left == '\0') {
            return difference;
        }
    }
    return 0;
}

bool tarn_symbols_known(std::uint64_t key, void** file) noexcept {
    for (std::size_t i = 0; i < file_count; ++i) {
        if (files[i].key == key) {
            *file = files[i].state;
            return true;
        }
    }
    return false;
}

void* tarn_symbols_open(std::uint64_t key, char const* path) noexcept {
    if (file_count == files_max) {
        tarn_symbols_release();
    }
    known_file& file = files[file_count++];
    file = {.key = key, .state = nullptr};
    std::size_t const bytes = path == nullptr ? 0 : std::strlen(path) + 1;
    void* const kept = path == nullptr ? MAP_FAILED : take_memory(bytes);
    if (kept != MAP_FAILED) {
        std::memcpy(kept, path, bytes);  // libbacktrace wants it for ever
        file.state =
            ::backtrace_create_state(static_cast<char const*>(kept), 0, &drop_error, nullptr);
    }
    return file.state;
}

void tarn_symbols_ask(tarn_symbols_query const* query) noexcept {
    auto* const state = static_cast<backtrace_state*>(query->file);
    void* const data = const_cast<tarn_symbols_query*>(query);
    current = query;
    ::backtrace_pcinfo(state, query->address, &pass_source, &drop_error, data);
    ::backtrace_syminfo(state, query->address, &pass_symbol, &drop_error, data);
    current = nullptr;
}

bool tarn_symbols_demangle(char const* name,
                           void (*write)(char const* text, std::size_t bytes, void* context),
                           void* context) noexcept {
    return starts_with(name, "_Z") && tarn_demangle_with(name, write, context) == 0;
}

std::size_t tarn_symbols_bytes() noexcept { return memory_bytes; }

void tarn_symbols_release() noexcept {
    for (std::size_t i = 0; i < range_count; ++i) {
        if (ranges[i].start != nullptr) {
            ::syscall(SYS_munmap, ranges[i].start, ranges[i].bytes);
        }
    }
    tarn_symbols_abandon();
}

void tarn_symbols_abandon() noexcept {
    for (std::size_t i = 0; i < range_count; ++i) {
        ranges[i] = {};
    }
    range_count = 0;
    file_count = 0;
    memory_bytes = 0;
    chunk = nullptr;
    chunk_left = 0;
    current = nullptr;
}
}
