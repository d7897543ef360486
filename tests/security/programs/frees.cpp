// frees.cpp - frees of what was freed, of what is no block, and by the wrong function.
#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <new>

#include "attack.hpp"

// Clang declares it only if asked to.
void operator delete(void* block, std::size_t bytes) noexcept;

namespace attacks {

namespace {

constexpr std::size_t largest = std::size_t{256} << 10;
constexpr std::size_t os_page_bytes = 4096;
constexpr std::size_t header_bytes = 16;  // before a block, where some allocators describe it
constexpr std::size_t reusers = 32;

/// Of the operations between two frees that are far apart.
constexpr std::size_t delay(std::size_t bytes) { return some(bytes) / 4; }

void free_twice(char* block) {
    wrong_call([&] { std::free(hidden(block)); });
}

outcome double_at_once(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.attacker();
    around.forget_attacker();
    std::free(block);
    free_twice(block);
    return around.judge();
}

outcome double_other_freed(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.attacker();
    around.forget_attacker();
    std::free(block);
    std::free(around.take());
    free_twice(block);
    return around.judge();
}

outcome double_other_allocated(std::size_t bytes) {
    scene around{bytes};
    std::size_t const other_bytes = bytes + bytes / 2 + 24;
    char* const block = around.attacker();
    around.forget_attacker();
    std::free(block);
    around.hold_new(other_bytes, 1);
    free_twice(block);
    return around.judge();
}

outcome double_reused(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.attacker();
    around.forget_attacker();
    std::free(block);
    around.hold_new(bytes, reusers);
    free_twice(block);
    return around.judge();
}

outcome double_delayed(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.attacker();
    around.forget_attacker();
    std::free(block);
    for (std::size_t i = 0; i < delay(bytes); ++i) {
        std::free(around.take());
    }
    around.hold_new(bytes, delay(bytes) / 2);
    free_twice(block);
    return around.judge();
}

outcome realloc_freed(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.attacker();
    around.forget_attacker();
    std::free(block);
    std::free(around.take());
    char* resized = nullptr;
    wrong_call(
        [&] { resized = static_cast<char*>(hidden(std::realloc(hidden(block), bytes * 2))); });
    if (resized != nullptr) {
        around.hold(resized, bytes * 2);
    }
    outcome const result = around.judge();
    return resized == nullptr && result == outcome::neutralised ? outcome::refused : result;
}

outcome invalid_number(std::size_t bytes) {
    scene around{bytes};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): what an attack needs
    wrong_call([&] { std::free(hidden(reinterpret_cast<void*>(bytes))); });
    return around.judge();
}

outcome invalid_stack(std::size_t bytes) {
    alignas(header_bytes) std::array<char, header_bytes + largest> buffer;
    scene around{bytes};
    char* const block = hidden(buffer.data()) + header_bytes;
    fill(block - header_bytes, 0, header_bytes + bytes);
    around.forbid(block, bytes);
    wrong_call([&] { std::free(hidden(block)); });
    return around.judge();
}

// An array of its own OS pages, which may be unmapped.
alignas(os_page_bytes) std::array<char, largest + 2 * os_page_bytes> forged;

outcome invalid_forged(std::size_t bytes) {
    scene around{bytes};
    char* const source = around.attacker();
    char* const block = forged.data() + header_bytes;
    (void)copy_if_readable(forged.data(), source - header_bytes, header_bytes);
    fill(block, 'f', bytes);
    around.forbid(block, bytes);
    wrong_call([&] { std::free(hidden(block)); });
    char last = 0;
    if (!copy_if_readable(&last, block + bytes - 1, 1) || last != 'f') {
        note_harm();
        around.forbid(nullptr, 0);
    }
    return around.judge();
}

outcome invalid_middle(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.attacker();
    wrong_call([&] { std::free(hidden(block) + bytes / 2); });
    return around.judge();
}

outcome invalid_odd(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.attacker();
    wrong_call([&] { std::free(hidden(block) + 1); });
    return around.judge();
}

outcome invalid_behind(std::size_t bytes) {
    scene around{bytes};
    char* const block = around.highest();
    std::size_t const distance = bytes < header_bytes ? header_bytes : bytes;
    wrong_call([&] { std::free(hidden(block) + distance); });
    return around.judge();
}

outcome invalid_mapped(std::size_t bytes) {
    constexpr std::size_t offset = 64;
    scene around{bytes};
    void* const mapping = ::mmap(nullptr, bytes + os_page_bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        std::_Exit(3);
    }
    char* const block = static_cast<char*>(mapping) + offset;
    around.forbid(block, bytes);
    wrong_call([&] { std::free(hidden(block)); });
    return around.judge();
}

/// There is no victim of a mismatch. That it was carried out in silence is what is missed.
outcome carried_out(scene& around) {
    outcome const result = around.judge();
    return armed ? outcome::missed : result;
}

template <class New, class WrongDelete, class Delete>
outcome mismatch(std::size_t bytes, New make, WrongDelete wrong, Delete right) {
    scene around{bytes};
    auto* const block = static_cast<char*>(hidden(make()));
    fill(block, 'a', bytes);
    if (armed) {
        wrong_call([&] { wrong(block); });
    } else {
        right(block);
    }
    return carried_out(around);
}

outcome mismatch_malloc(std::size_t bytes) {
    return mismatch(
        bytes, [&] { return std::malloc(bytes); }, [](void* block) { ::operator delete(block); },
        [](void* block) { std::free(block); });
}

outcome mismatch_new(std::size_t bytes) {
    return mismatch(
        bytes, [&] { return ::operator new(bytes); }, [](void* block) { std::free(block); },
        [](void* block) { ::operator delete(block); });
}

outcome mismatch_array(std::size_t bytes) {
    return mismatch(
        bytes, [&] { return ::operator new[](bytes); },
        [](void* block) { ::operator delete(block); },
        [](void* block) { ::operator delete[](block); });
}

outcome mismatch_size(std::size_t bytes) {
    scene around{bytes};
    std::size_t const told = armed ? bytes * 8 : bytes;
    auto* const block = static_cast<char*>(hidden(::operator new(bytes)));
    around.hold_new(bytes, reusers);
    ::operator delete(block, told);
    around.look_for_overlaps(bytes * 8);
    return around.judge();
}

constexpr std::array table{
    attack{"double-free", "at-once", double_at_once, true, "free(p), free(p)"},
    attack{"double-free", "other-freed", double_other_freed, true, "free(p), free(q), free(p)"},
    attack{"double-free", "other-allocated", double_other_allocated, true,
           "free(p), malloc of another size, free(p)"},
    attack{"double-free", "reused", double_reused, true,
           "free(p), 32 times malloc of that size, free(p)"},
    attack{"double-free", "delayed", double_delayed, true,
           "free(p), many frees and fewer mallocs of that size, free(p)"},
    attack{"invalid-free", "number", invalid_number, true, "free((void*)n)"},
    attack{"invalid-free", "stack", invalid_stack, true, "free of an array on the stack"},
    attack{"invalid-free", "forged", invalid_forged, true,
           "free of static data behind a copy of the 16 bytes before a block"},
    attack{"invalid-free", "middle", invalid_middle, true, "free(p + n / 2)"},
    attack{"invalid-free", "odd", invalid_odd, true, "free(p + 1)"},
    attack{"invalid-free", "behind", invalid_behind, true,
           "free of the address behind the highest block"},
    attack{"invalid-free", "mapped", invalid_mapped, true, "free of an address in an own mapping"},
    attack{"invalid-realloc", "freed", realloc_freed, true, "free(p), free(q), realloc(p, 2 * n)"},
    attack{"mismatch", "malloc-delete", mismatch_malloc, true, "malloc, then delete"},
    attack{"mismatch", "new-free", mismatch_new, true, "new, then free"},
    attack{"mismatch", "array-delete", mismatch_array, true, "new[], then delete"},
    attack{"mismatch", "size", mismatch_size, true, "new, then delete with 8 times the size"},
};

}  // namespace

constinit std::span<attack const> const free_attacks{table};

}  // namespace attacks
