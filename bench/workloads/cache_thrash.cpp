// cache_thrash THREADS [ROUNDS [WRITES]] - active false sharing.
//
// All threads start at once, and each ROUNDS times takes an object of 8 bytes, writes to it WRITES
// times and frees it. An allocator that serves neighbouring objects to several threads leaves them
// writing to one cache line. The threads share ROUNDS evenly.
// Only threads that run at the same time show it: THREADS is at most the number of free cores.
//
// Source     the pattern of E. Berger, K. McKinley, R. Blumofe, P. Wilson, "Hoard: A Scalable
//            Memory Allocator for Multithreaded Applications", ASPLOS 2000; written anew
#include <latch>

#include "support.hpp"

namespace {

using namespace bench;

using object = std::uint64_t volatile;  // each write is one to memory

std::uint64_t write_often(std::uint64_t round, std::uint64_t writes) {
    void* const block = must_allocate(sizeof(object));
    mark(block, sizeof(object), mix(round));
    auto& counter = *static_cast<object*>(block);
    for (std::uint64_t left = writes; left != 0; --left) {
        counter = counter + 1;
    }
    check_marked(block, sizeof(object), mix(round) + writes);
    std::free(block);
    return mix(round);
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {2, 1'000'000, 1'000};
    parse_arguments(argc, argv, "cache_thrash THREADS [ROUNDS [WRITES]]", numbers);
    std::uint64_t const threads = numbers[0];
    std::uint64_t const rounds = numbers[1];
    std::uint64_t const writes = numbers[2];
    std::latch all_ready{static_cast<std::ptrdiff_t>(threads)};
    std::uint64_t const checksum = run_threads(threads, [&](std::size_t index) {
        all_ready.arrive_and_wait();
        std::uint64_t sum = 0;
        for (std::uint64_t round = index; round < rounds; round += threads) {
            sum += write_often(round, writes);
        }
        return sum;
    });
    return finish("cache_thrash", checksum);
}
