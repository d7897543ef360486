// pareto [THREADS [SLOTS [OPERATIONS]]] - random replacement where few do most, and most is small.
//
// Each thread has slots of its own. An operation picks one, the first fifth of them four times in
// five, and so on within that fifth; it frees the block there, or else takes one: of 8 bytes or
// more, twice as many with probability 0.45, up to 8 KiB. So some blocks live for a few operations
// and others for the whole run, side by side. The threads share SLOTS and OPERATIONS evenly.
//
// Source     the pattern of alloc-test, OLogN Technologies (ITHare.com), 2018, as in the collection
//            mimalloc-bench; written anew. Pareto's law: a fifth has four fifths, exponent 1.16
#include <algorithm>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::uint64_t least_bytes = 8;
constexpr unsigned doublings_max = 9;  // blocks below 8 << 10 bytes
// 2^-1.16, the exponent for which a fifth of all hold four fifths of the whole, in 1/1024.
constexpr std::uint64_t doubling_odds = 458;
constexpr std::uint64_t odds = 1024;

struct slot {
    void* block = nullptr;
    std::size_t bytes = 0;
    std::uint64_t tag = 0;
};

std::uint64_t pick(std::uint64_t slots, random_stream& random) noexcept {
    while (slots > 1 && !random.one_in(5)) {
        slots = (slots + 4) / 5;
    }
    return random.below(slots);
}

std::size_t pick_bytes(random_stream& random) noexcept {
    std::uint64_t least = least_bytes;
    std::uint64_t const most = least_bytes << doublings_max;
    while (least < most && random.below(odds) < doubling_odds) {
        least *= 2;
    }
    return least + random.below(least);
}

std::uint64_t replace(std::uint64_t seed, std::uint64_t slots, std::uint64_t operations) {
    random_stream random{seed};
    std::uint64_t checksum = 0;
    std::vector<slot> table(slots);
    auto const give = [&](slot& each) {
        check_marked(each.block, each.bytes, each.tag);
        checksum += each.tag;
        std::free(each.block);
        each.block = nullptr;
    };
    for (; operations != 0; --operations) {
        slot& chosen = table[pick(slots, random)];
        if (chosen.block != nullptr) {
            give(chosen);
            continue;
        }
        chosen.bytes = pick_bytes(random);
        chosen.tag = random.next();
        chosen.block = must_allocate(chosen.bytes);
        mark(chosen.block, chosen.bytes, chosen.tag);
    }
    for (slot& each : table) {
        if (each.block != nullptr) {
            give(each);
        }
    }
    return checksum;
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {1, 200'000, 4'000'000};
    parse_arguments(argc, argv, "pareto [THREADS [SLOTS [OPERATIONS]]]", numbers);
    auto const [threads, slots, operations] = numbers;
    std::uint64_t const own_slots = std::max<std::uint64_t>(slots / threads, 1);
    std::uint64_t const own_operations = operations / threads;
    std::uint64_t const checksum = run_threads(threads, [&](std::size_t index) {
        return replace(mix(index + 1), own_slots, own_operations);
    });
    return finish("pareto", checksum);
}
