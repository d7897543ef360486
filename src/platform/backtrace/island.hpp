// platform/backtrace/island.hpp - what symbols.cpp asks of GCC's libbacktrace and demangler.
//
// The island is island.cpp linked with the two archives into one object, in which only the names
// below stay global: a program may bring a libbacktrace of its own, and the archives' calls of
// malloc, mmap, open and dl_iterate_phdr end in island.cpp. So nothing here takes a lock or calls
// the program's functions; memory comes from mmap and is known by its ranges.
//
// Threads    one at a time
// Errors     null, false or no call. A damaged file may make it read outside its memory, and a
//            large one takes long: guarded_call.hpp is for that
// Tests      unit/platform/symbols_test.cpp
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

/// Whether a file is known under this key, and then what tarn_symbols_open() made of it; null: it
/// can't be read.
bool tarn_symbols_known(std::uint64_t key, void** file) noexcept;

/// The symbols and lines of a file, from now on known under `key`. Separate debug files are looked
/// for beside `path`; without one it is remembered that it can't be read. Lives until
/// tarn_symbols_release(); when there are too many, that happens first.
void* tarn_symbols_open(std::uint64_t key, char const* path) noexcept;

struct tarn_symbols_query {
    void* file;           // of tarn_symbols_open()
    char const* path;     // the same, and
    int fd;               // the file itself, for the first query
    std::uintptr_t base;  // where address 0 of the file lies
    std::uintptr_t address;
    void* context;
    /// For each source frame, innermost inlined first. Null, 0: not known.
    void (*source)(void* context, char const* function, char const* path, unsigned line) noexcept;
    /// The name in the symbol table, if there is one.
    void (*symbol)(void* context, char const* name) noexcept;
};

void tarn_symbols_ask(tarn_symbols_query const* query) noexcept;

/// Hands the readable form of a C++ name to `write`, in pieces. False: it is no such name.
bool tarn_symbols_demangle(char const* name,
                           void (*write)(char const* text, std::size_t bytes, void* context),
                           void* context) noexcept;

/// What is mapped, files apart.
std::size_t tarn_symbols_bytes() noexcept;

/// Gives everything back; forgets all files.
void tarn_symbols_release() noexcept;

/// Forgets all files and gives nothing back: what is mapped can't be told.
void tarn_symbols_abandon() noexcept;
}
