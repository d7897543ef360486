// own_malloc.cpp - a program with its own malloc: powers of two from one arena, one lock.
// Its free() aborts on a block that is not from the arena, so the program ends well only if every
// malloc and free of the process, libc's included, binds here. operator new may be anybody's.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <clocale>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t arena_bytes = std::size_t{1} << 30;
constexpr std::size_t header_bytes = 16;  // before each block: the exponent of its size

struct free_block {
    free_block* next;
};

std::byte* arena_begin = nullptr;
std::byte* arena_next = nullptr;
free_block* free_lists[64];
std::atomic_flag lock;
std::atomic<std::size_t> calls;

bool is_ours(void const* block) {
    auto const* const at = static_cast<std::byte const*>(block);
    return arena_begin <= at && at < arena_begin + arena_bytes;
}

std::size_t exponent_of(void const* block) {
    if (!is_ours(block)) {
        abort();
    }
    return *reinterpret_cast<std::size_t const*>(static_cast<std::byte const*>(block) -
                                                 header_bytes);
}

void* take(std::size_t bytes) {
    std::size_t const exponent = std::bit_width(bytes + header_bytes);
    while (lock.test_and_set(std::memory_order_acquire)) {
    }
    if (arena_begin == nullptr) {
        arena_begin =
            static_cast<std::byte*>(mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        arena_next = arena_begin;
    }
    std::byte* block = nullptr;
    if (free_lists[exponent] != nullptr) {
        block = reinterpret_cast<std::byte*>(free_lists[exponent]);
        free_lists[exponent] = free_lists[exponent]->next;
    } else if (arena_begin + arena_bytes - arena_next > std::ptrdiff_t{1} << exponent) {
        block = arena_next + header_bytes;
        arena_next += std::size_t{1} << exponent;
        *reinterpret_cast<std::size_t*>(block - header_bytes) = exponent;
    }
    lock.clear(std::memory_order_release);
    ++calls;
    if (block == nullptr) {
        errno = ENOMEM;
    }
    return block;
}

}  // namespace

extern "C" {

void* malloc(std::size_t bytes) { return bytes > arena_bytes ? nullptr : take(bytes); }

void free(void* block) {
    if (block == nullptr) {
        return;
    }
    std::size_t const exponent = exponent_of(block);
    while (lock.test_and_set(std::memory_order_acquire)) {
    }
    free_lists[exponent] = new (block) free_block{free_lists[exponent]};
    lock.clear(std::memory_order_release);
}

void* calloc(std::size_t count, std::size_t bytes) {
    std::size_t total = 0;
    if (__builtin_mul_overflow(count, bytes, &total)) {
        return nullptr;
    }
    void* const volatile block = malloc(total);  // volatile: else this becomes a call of calloc
    return block == nullptr ? nullptr : memset(block, 0, total);
}

std::size_t malloc_usable_size(void* block) {
    return block == nullptr ? 0 : (std::size_t{1} << exponent_of(block)) - header_bytes;
}

void* realloc(void* block, std::size_t bytes) {
    if (block != nullptr && bytes <= malloc_usable_size(block)) {
        return block;
    }
    void* const larger = malloc(bytes);
    if (larger != nullptr && block != nullptr) {
        memcpy(larger, block, malloc_usable_size(block));
        free(block);
    }
    return larger;
}

}  // extern "C"

int main() {
    setlocale(LC_ALL, "C.UTF-8");
    std::vector<std::thread> threads;
    std::atomic<std::size_t> total = 0;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&total, t] {
            std::map<int, std::string> table;
            for (int i = 0; i < 40000; ++i) {
                table[i * 7919 % 1009] = std::string(static_cast<std::size_t>((i + t) % 200), 'x');
                char* copy = strdup(table.begin()->second.c_str());
                copy = static_cast<char*>(realloc(copy, 300));
                free(copy);
            }
            for (auto const& [key, value] : table) {
                total += static_cast<std::size_t>(key) + value.size();
            }
            try {
                throw std::runtime_error("an exception of " + std::to_string(t));
            } catch (std::runtime_error const& error) {
                total += strlen(error.what());
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }

    // Blocks that libc allocates and we free.
    FILE* const file = fopen("/etc/passwd", "r");
    char* line = nullptr;
    std::size_t line_bytes = 0;
    bool lines = false;
    while (getline(&line, &line_bytes, file) > 0) {
        lines = true;
    }
    free(line);
    fclose(file);
    char* text = nullptr;
    if (asprintf(&text, "%d and %s", 42, "more") < 0) {
        return 1;
    }
    char* const path = realpath("/usr/../etc", nullptr);
    void* const library = dlopen("libresolv.so.2", RTLD_NOW);
    std::cout << total << ' ' << lines << ' ' << text << ' ' << path << ' ' << (library != nullptr)
              << " own malloc: " << (calls > 160000) << is_ours(text) << is_ours(path) << std::endl;
    free(text);
    free(path);
    dlclose(library);
}
