// Blocks of one size in memory that the program has, and never more than that.
#include <array>
#include <cstddef>
#include <cstdio>
#include <stdexcept>

#include <tarn/block_pool.hpp>

int main() {
    alignas(64) static std::array<std::byte, 4096> memory;
    tarn::block_pool packets{memory, {.block_bytes = 256, .alignment = 64, .name = "packets"}};
    void* const first = packets.allocate();
    std::printf("%zu of %zu packets\n", packets.size(), packets.blocks_most());
    int other = 0;
    try {
        packets.deallocate_checked(&other);
    } catch (std::invalid_argument const&) {
        std::printf("what is not a packet stays out\n");
    }
    packets.deallocate(first);
}
