// sizes.cpp - sizes that no block can have, most of which wrap around to small ones.
#include <array>
#include <cerrno>
#include <cstdlib>

#include "attack.hpp"

namespace attacks {

namespace {

std::size_t hidden_size(std::size_t value) {
    asm volatile("" : "+r"(value));
    return value;
}

outcome answered(void* block, scene& around) {
    outcome const sound = around.judge();
    if (block != nullptr) {
        note_harm();
        return outcome::missed;
    }
    return sound == outcome::missed ? sound : outcome::refused;
}

outcome negative(std::size_t bytes) {
    scene around{bytes};
    void* block = nullptr;
    wrong_call([&] { block = hidden(std::malloc(hidden_size(0 - bytes))); });
    return answered(block, around);
}

outcome product(std::size_t bytes) {
    scene around{bytes};
    std::size_t const count = hidden_size(SIZE_MAX / bytes + 2);  // times bytes: bytes
    void* block = nullptr;
    wrong_call([&] { block = hidden(std::calloc(count, hidden_size(bytes))); });
    return answered(block, around);
}

outcome resized(std::size_t bytes) {
    scene around{bytes};
    char* const old = around.attacker();
    void* block = nullptr;
    wrong_call([&] { block = hidden(std::realloc(hidden(old), hidden_size(0 - bytes))); });
    if (block != nullptr) {
        around.forget_attacker();
    } else if (old[0] != 'a' || old[bytes - 1] != 'a') {
        note_harm();
    }
    return answered(block, around);
}

constexpr std::array table{
    attack{"huge-size", "malloc", negative, true, "malloc(-n)"},
    attack{"huge-size", "calloc", product, true, "calloc(m, n) whose product is n modulo 2^64"},
    attack{"huge-size", "realloc", resized, true, "realloc(p, -n)"},
};

}  // namespace

constinit std::span<attack const> const size_attacks{table};

}  // namespace attacks
