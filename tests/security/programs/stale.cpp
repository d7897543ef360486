// stale.cpp - blocks used after their free, or by others too soon, and what is left in memory.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "attack.hpp"

namespace attacks {

namespace {

constexpr std::size_t word_bytes = 8;
constexpr std::size_t reusers = 32;
constexpr std::size_t forgotten = 4;  // blocks that held a secret, and were freed

alignas(64) std::array<char, 4096> target;

/// Frees the attacker's block; not where the attack is tame, so that it stays its own.
char* freed(scene& around) {
    char* const block = around.attacker();
    if (armed) {
        around.forget_attacker();
        std::free(block);
    }
    return hidden(block);
}

/// Whether one of the next `count` blocks lies in a block just freed.
outcome reuse_within(std::size_t bytes, std::size_t count) {
    scene around{bytes};
    char const* const block = freed(around);
    for (std::size_t i = 0; i < count; ++i) {
        char* const next = get(bytes);
        around.hold(next, bytes);
        if (next < block + bytes && block < next + bytes) {
            note_harm();
        }
    }
    return around.judge();
}

outcome reuse_next(std::size_t bytes) { return reuse_within(bytes, 1); }

outcome reuse_soon(std::size_t bytes) { return reuse_within(bytes, reusers); }

outcome write_link(std::size_t bytes) {
    scene around{bytes};
    std::free(around.take());
    char* const block = freed(around);
    around.forbid(target.data(), target.size());
    char* const address = target.data();
    wrong_access([&] {
        for (std::size_t at = 0; at < std::min<std::size_t>(bytes, 32); at += sizeof address) {
            std::memcpy(hidden(block) + at, &address, sizeof address);
        }
    });
    return around.judge();
}

outcome write_reused(std::size_t bytes) {
    scene around{bytes};
    char* const block = freed(around);
    around.hold_new(bytes, reusers);
    wrong_access([&] { fill(block, 'X', word_bytes); });
    return around.judge();
}

outcome write_zeroed(std::size_t bytes) {
    scene around{bytes};
    char* const block = freed(around);
    wrong_access([&] { fill(block + bytes - word_bytes, 'X', word_bytes); });
    for (std::size_t i = 0; i < reusers; ++i) {
        auto* const zeroed = static_cast<char*>(hidden(std::calloc(1, bytes)));
        if (zeroed == nullptr) {
            std::_Exit(3);
        }
        around.hold(zeroed, bytes);
        if (!std::all_of(zeroed, zeroed + bytes, [](char byte) { return byte == 0; })) {
            note_harm();
        }
    }
    return around.judge();
}

outcome read_old(std::size_t bytes) {
    scene around{bytes};
    fill_with_secret(around.attacker(), bytes);
    char const* const block = freed(around);
    bool found = false;
    wrong_access([&] { found = read_finds_secret(block, bytes); });
    if (found) {
        note_harm();
    }
    return around.judge();
}

outcome read_reused(std::size_t bytes) {
    scene around{bytes};
    char const* const block = freed(around);
    around.hold_new(bytes, reusers);
    bool found = false;
    wrong_access([&] { found = read_finds_secret(block, bytes); });
    if (found) {
        note_harm();
    }
    return around.judge();
}

outcome old_in_malloc(std::size_t bytes) {
    scene around{bytes, scene::content::nothing};
    for (std::size_t i = 0; i < forgotten; ++i) {
        char* const block = around.take();
        if (armed) {
            fill_with_secret(block, bytes);
        }
        std::free(block);
    }
    for (std::size_t i = 0; i < reusers; ++i) {
        char* const block = get(bytes);
        around.hold(block, bytes);
        if (has_secret(block, bytes)) {
            note_harm();
        }
    }
    return around.judge();
}

outcome old_in_realloc(std::size_t bytes) {
    scene around{bytes * 2, scene::content::nothing};
    std::array<char*, forgotten> grown{};
    for (char*& block : grown) {
        block = get(bytes);
        fill(block, 'n', bytes);
    }
    for (std::size_t i = 0; i < forgotten; ++i) {
        char* const block = around.take();
        if (armed) {
            fill_with_secret(block, bytes * 2);
        }
        std::free(block);
    }
    for (char* const block : grown) {
        auto* const larger = static_cast<char*>(hidden(std::realloc(block, bytes * 2)));
        if (larger == nullptr) {
            std::_Exit(3);
        }
        around.hold(larger, bytes * 2);
        if (has_secret(larger + bytes, bytes)) {
            note_harm();
        }
    }
    return around.judge();
}

constexpr std::array table{
    attack{"early-reuse", "next", reuse_next, true, "free(p), then malloc gives p"},
    attack{"early-reuse", "soon", reuse_soon, true, "free(p), then one of 32 mallocs gives p"},
    attack{"write-after-free", "link", write_link, true,
           "write an address where a freed block's link may be, to be handed out"},
    attack{"write-after-free", "reused", write_reused, true,
           "write 8 bytes to a freed block after 32 mallocs of that size"},
    attack{"write-after-free", "calloc", write_zeroed, true,
           "write the last 8 bytes of a freed block before 32 times calloc"},
    attack{"read-after-free", "old", read_old, true, "read what a freed block held"},
    attack{"read-after-free", "reused", read_reused, true,
           "read a freed block after 32 mallocs of that size"},
    attack{"old-contents", "malloc", old_in_malloc, true, "malloc gives what others held"},
    attack{"old-contents", "realloc", old_in_realloc, true,
           "what realloc adds to a block is what others held"},
};

}  // namespace

constinit std::span<attack const> const stale_attacks{table};

}  // namespace attacks
