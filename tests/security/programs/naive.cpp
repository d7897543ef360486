// naive.cpp - a malloc without any care, for preloading: under it attacks succeed.
//
// Blocks of powers of two, side by side and exactly as large as they can be, from one range of
// addresses per size; a list of free blocks that runs through them, last in, first out; what is
// freed is put there unseen, by its address, by the size that operator delete is told, or, if it is
// no address of its own, as a block of the size asked for last. For one thread.
#include <sys/mman.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace {

constexpr std::size_t least_bytes = 8;
constexpr int classes = 32;
constexpr std::size_t range_bytes = std::size_t{1} << 28;

struct free_block {
    free_block* next;
};

constinit free_block* lists[classes];
constinit char* fresh[classes];
constinit char* ranges = nullptr;
constinit int last_class = 0;

int class_of(std::size_t bytes) {
    return bytes <= least_bytes ? 0 : static_cast<int>(std::bit_width(bytes - 1)) - 3;
}

std::size_t class_bytes(int number) { return least_bytes << number; }

int class_of_block(void* block) {
    auto const offset = static_cast<std::size_t>(static_cast<char*>(block) - ranges);
    return offset < classes * range_bytes ? static_cast<int>(offset / range_bytes) : last_class;
}

void* take(std::size_t bytes) {
    if (ranges == nullptr) {
        ranges = static_cast<char*>(::mmap(nullptr, classes * range_bytes, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        for (int i = 0; i < classes; ++i) {
            fresh[i] = ranges + static_cast<std::size_t>(i) * range_bytes;
        }
    }
    int const number = class_of(bytes);
    last_class = number;
    if (free_block* const first = lists[number]) {
        lists[number] = first->next;
        return first;
    }
    char* const block = fresh[number];
    fresh[number] += class_bytes(number);
    return block;
}

void give(void* block, int number) {
    if (block != nullptr) {
        lists[number] = ::new (block) free_block{lists[number]};
    }
}

}  // namespace

extern "C" {

// Sizes that wrap around to small ones when room for a header is added, as some allocators' do.
[[gnu::visibility("default")]] void* malloc(std::size_t bytes) {
    return take(static_cast<std::uint32_t>(bytes));
}

[[gnu::visibility("default")]] void free(void* block) { give(block, class_of_block(block)); }

[[gnu::visibility("default")]] void* calloc(std::size_t count, std::size_t bytes) {
    bool const fresh_alone = lists[class_of(count * bytes)] == nullptr;
    void* const block = take(count * bytes);
    if (!fresh_alone) {
        std::memset(block, 0, least_bytes);  // the link; all else was zero when it was mapped
    }
    return block;
}

[[gnu::visibility("default")]] void* realloc(void* block, std::size_t bytes) {
    if (bytes == 0) {
        free(block);
        return nullptr;
    }
    void* const moved = malloc(bytes);
    if (block != nullptr) {
        std::size_t const old_bytes = class_bytes(class_of_block(block));
        std::size_t const new_bytes = static_cast<std::uint32_t>(bytes);
        std::memcpy(moved, block, old_bytes < new_bytes ? old_bytes : new_bytes);
        free(block);
    }
    return moved;
}

}  // extern "C"

[[gnu::visibility("default")]] void* operator new(std::size_t bytes) { return malloc(bytes); }

[[gnu::visibility("default")]] void* operator new[](std::size_t bytes) { return malloc(bytes); }

[[gnu::visibility("default")]] void operator delete(void* block) noexcept { free(block); }

[[gnu::visibility("default")]] void operator delete[](void* block) noexcept { free(block); }

[[gnu::visibility("default")]] void operator delete(void* block, std::size_t bytes) noexcept {
    give(block, class_of(bytes));
}

[[gnu::visibility("default")]] void operator delete[](void* block, std::size_t bytes) noexcept {
    give(block, class_of(bytes));
}
