// bounds.cpp - accesses beyond a block's ends, and to blocks of no bytes.
#include <array>
#include <cstdlib>
#include <new>

#include "attack.hpp"

namespace attacks {

namespace {

constexpr std::size_t word_bytes = 8;
constexpr std::size_t page_bytes = 4096;
constexpr std::size_t victims = 32;

/// From the start of a block to a write that jumps over what lies next to it. There are blocks as
/// far away, and where they lie as densely as they can, one starts just there.
constexpr std::size_t far_bytes(std::size_t bytes) {
    return bytes <= 64                        ? std::size_t{16} << 10
           : bytes <= (std::size_t{64} << 10) ? std::size_t{64} << 10
                                              : std::size_t{1} << 20;
}

/// Writes from `offset` bytes behind the block's start on, then frees the block.
outcome write_at(std::size_t bytes, std::ptrdiff_t offset, std::size_t length) {
    scene around{bytes};
    char* const block = around.attacker();
    wrong_access([&] { fill(hidden(block) + offset, 'X', length); });
    around.forget_attacker();
    std::free(block);
    return around.judge();
}

outcome read_at(std::size_t bytes, std::ptrdiff_t offset, std::size_t length) {
    scene around{bytes};
    char* const block = around.attacker();
    bool found = false;
    wrong_access([&] { found = read_finds_secret(hidden(block) + offset, length); });
    if (found) {
        note_harm();
    }
    around.forget_attacker();
    std::free(block);
    return around.judge();
}

outcome over_byte(std::size_t bytes) {
    return write_at(bytes, static_cast<std::ptrdiff_t>(bytes), 1);
}

outcome over_word(std::size_t bytes) {
    return write_at(bytes, static_cast<std::ptrdiff_t>(bytes), word_bytes);
}

outcome over_page(std::size_t bytes) {
    return write_at(bytes, static_cast<std::ptrdiff_t>(bytes), page_bytes);
}

outcome over_far(std::size_t bytes) {
    return write_at(bytes, static_cast<std::ptrdiff_t>(far_bytes(bytes)), word_bytes);
}

outcome over_read(std::size_t bytes) {
    return read_at(bytes, static_cast<std::ptrdiff_t>(bytes), page_bytes);
}

outcome under_byte(std::size_t bytes) { return write_at(bytes, -1, 1); }

outcome under_word(std::size_t bytes) {
    return write_at(bytes, -static_cast<std::ptrdiff_t>(word_bytes), word_bytes);
}

outcome under_read(std::size_t bytes) {
    return read_at(bytes, -static_cast<std::ptrdiff_t>(page_bytes), page_bytes);
}

/// A block of no bytes, with blocks of 8 bytes that hold the secret, and others of none, around it.
template <class New>
char* among_others(scene& around, New make) {
    constexpr std::size_t pairs = 64;
    char* chosen = nullptr;
    for (std::size_t i = 0; i < pairs; ++i) {
        auto* const block = static_cast<char*>(hidden(make()));
        if (block == nullptr) {
            continue;
        }
        around.hold_new(word_bytes, 1);
        if (i == pairs / 2) {
            chosen = block;
        }
    }
    return chosen;
}

void* malloc_nothing() { return std::malloc(0); }

void* new_nothing() { return ::operator new[](0); }

template <class New, class Delete>
outcome write_to_nothing(New make, Delete end, std::size_t length) {
    scene around{word_bytes};
    char* const block = among_others(around, make);
    if (block == nullptr) {
        return outcome::refused;
    }
    wrong_access([&] { fill(block, 'X', length); });
    end(block);
    return around.judge();
}

outcome nothing_write_byte(std::size_t) { return write_to_nothing(malloc_nothing, std::free, 1); }

outcome nothing_write_more(std::size_t) { return write_to_nothing(malloc_nothing, std::free, 32); }

outcome nothing_new_write(std::size_t) {
    return write_to_nothing(
        new_nothing, [](void* block) { ::operator delete[](block); }, 32);
}

outcome nothing_read(std::size_t) {
    scene around{word_bytes};
    char* const block = among_others(around, malloc_nothing);
    if (block == nullptr) {
        return outcome::refused;
    }
    bool found = false;
    wrong_access([&] { found = read_finds_secret(block, 64); });
    if (found) {
        note_harm();
    }
    std::free(block);
    return around.judge();
}

outcome nothing_realloc(std::size_t) {
    scene around{word_bytes};
    char* block = around.attacker();
    if (armed) {
        // Null is taken for a failure, after which the block would still be there.
        around.forget_attacker();
        void* const resized = std::realloc(block, 0);
        block = resized == nullptr ? block : static_cast<char*>(resized);
        around.hold_new(word_bytes, victims);
    }
    wrong_access([&] { fill(hidden(block), 'X', word_bytes); });
    return around.judge();
}

constexpr std::array table{
    attack{"overflow", "byte", over_byte, true, "write 1 byte behind the end"},
    attack{"overflow", "word", over_word, true, "write 8 bytes behind the end"},
    attack{"overflow", "page", over_page, true, "write 4096 bytes behind the end"},
    attack{"overflow", "far", over_far, true,
           "write 8 bytes, 16 KiB, 64 KiB or 1 MiB behind the start"},
    attack{"overflow", "read", over_read, true, "read 4096 bytes behind the end"},
    attack{"underflow", "byte", under_byte, true, "write the byte before the start"},
    attack{"underflow", "word", under_word, true, "write the 8 bytes before the start"},
    attack{"underflow", "read", under_read, true, "read the 4096 bytes before the start"},
    attack{"zero-size", "byte", nothing_write_byte, false, "write 1 byte to malloc(0)"},
    attack{"zero-size", "more", nothing_write_more, false, "write 32 bytes to malloc(0)"},
    attack{"zero-size", "read", nothing_read, false, "read 64 bytes of malloc(0)"},
    attack{"zero-size", "new", nothing_new_write, false, "write 32 bytes to new char[0]"},
    attack{"zero-size", "realloc", nothing_realloc, false,
           "write 8 bytes after realloc(p, 0), to p where that gave null"},
};

}  // namespace

constinit std::span<attack const> const bounds_attacks{table};

}  // namespace attacks
