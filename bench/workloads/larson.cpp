// larson THREADS SIZED [GENERATIONS [OPERATIONS]] - a server whose threads come and go.
//
// Each worker holds 1,000 blocks of 8 to 999 bytes and replaces random ones; after OPERATIONS it
// hands its blocks to a new thread and ends, GENERATIONS times. So most blocks are freed by another
// thread than the one that took them. SIZED 2: with sized operator delete; 1: with plain.
//
// Source     the pattern of P. Larson, M. Krishnan, "Memory Allocation for Long-Running Server
//            Applications", ISMM 1998; written anew
#include <array>
#include <new>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t blocks_per_worker = 1000;
constexpr std::uint64_t least_bytes = 8;
constexpr std::uint64_t most_bytes = 999;

struct held_block {
    void* address = nullptr;
    std::size_t bytes = 0;
    std::uint64_t tag = 0;
};

struct worker {
    explicit worker(std::uint64_t seed) : random{seed} {}

    std::array<held_block, blocks_per_worker> blocks{};
    random_stream random;
    std::uint64_t checksum = 0;
    bool sized = false;

    void take(held_block& block) {
        block.bytes = random.between(least_bytes, most_bytes);
        block.tag = random.next();
        block.address = ::operator new(block.bytes);
        mark(block.address, block.bytes, block.tag);
    }

    void give(held_block& block) {
        check_marked(block.address, block.bytes, block.tag);
        checksum += block.tag;
        if (sized) {
            ::operator delete(block.address, block.bytes);
        } else {
            ::operator delete(block.address);
        }
    }

    void replace_some(std::uint64_t operations) {
        for (; operations != 0; --operations) {
            held_block& block = blocks[random.below(blocks_per_worker)];
            give(block);
            take(block);
        }
    }
};

std::uint64_t serve(std::uint64_t seed, bool sized, std::uint64_t generations,
                    std::uint64_t operations) {
    worker state{seed};
    state.sized = sized;
    for (held_block& block : state.blocks) {
        state.take(block);
    }
    for (; generations != 0; --generations) {
        std::thread{[&state, operations] { state.replace_some(operations); }}.join();
    }
    for (held_block& block : state.blocks) {
        state.give(block);
    }
    return state.checksum;
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {2, 1, 100, 60'000};
    parse_arguments(argc, argv, "larson THREADS SIZED [GENERATIONS [OPERATIONS]]", numbers);
    std::uint64_t const checksum = run_threads(numbers[0], [&numbers](std::size_t index) {
        return serve(mix(index + 1), numbers[1] == 2, numbers[2], numbers[3]);
    });
    return finish("larson", checksum);
}
