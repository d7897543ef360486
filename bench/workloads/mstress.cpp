// mstress THREADS [PHASES [SCALE]] - blocks of all sizes, exchanged by threads that come and go.
//
// In each of PHASES phases THREADS new threads start; each allocates SCALE times 1,000 blocks, most
// of 16 to 1,000 bytes, one in 32 of up to 64 KiB, one in 1,024 of up to 512 KiB. A thread frees
// most of them itself. Some it exchanges for what lies in an array that all threads share, and
// frees that; some outlive it, and a thread of the next phase frees them.
//
// Source     the pattern of D. Leijen's stress test of mimalloc, "mstress" in mimalloc-bench;
//            written anew
#include <array>
#include <atomic>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t transfer_slots = 1024;
constexpr std::uint64_t kib = 1024;

using block_list = std::vector<void*>;

std::size_t some_size(random_stream& random) {
    std::uint64_t const kind = random.below(1024);
    if (kind == 0) {
        return random.between(64 * kib, 512 * kib);
    }
    if (kind <= 32) {
        return random.between(1 * kib, 64 * kib);
    }
    return 15 + random.size_up_to(985);
}

/// Removes a random one of `blocks`, which holds at least one.
void* remove_some(block_list& blocks, random_stream& random) {
    std::swap(blocks[random.below(blocks.size())], blocks.back());
    void* const block = blocks.back();
    blocks.pop_back();
    return block;
}

/// Frees all of `blocks`. Returns the sum of their tags, as all do that free.
std::uint64_t give_all(block_list& blocks) {
    std::uint64_t sum = 0;
    for (void* const block : blocks) {
        sum += give_tagged(block);
    }
    blocks.clear();
    return sum;
}

class transfer_array {
public:
    /// Leaves `block` in a random slot and frees what lay there.
    std::uint64_t exchange(void* block, random_stream& random) {
        // acq_rel: what its thread wrote to a block is there for the thread that takes it.
        void* const other =
            slots_[random.below(transfer_slots)].exchange(block, std::memory_order_acq_rel);
        return other != nullptr ? give_tagged(other) : 0;
    }

    /// When the threads have ended.
    std::uint64_t give_rest() {
        std::uint64_t sum = 0;
        for (std::atomic<void*>& slot : slots_) {
            if (void* const block = slot.exchange(nullptr, std::memory_order_relaxed)) {
                sum += give_tagged(block);
            }
        }
        return sum;
    }

private:
    std::array<std::atomic<void*>, transfer_slots> slots_{};
};

/// The life of a thread. `inherited`: what a thread of the last phase left; `left`: what this one
/// leaves. Which blocks it takes, and how many it holds, doesn't depend on other threads.
std::uint64_t live(std::uint64_t seed, std::uint64_t allocations, transfer_array& transfer,
                   block_list& inherited, block_list& left) {
    random_stream random{seed};
    block_list held;
    held.reserve(allocations);
    left.reserve(allocations / 8);
    std::uint64_t sum = 0;
    for (std::uint64_t count = 0; count < allocations; ++count) {
        std::size_t const bytes = some_size(random);
        held.push_back(take_tagged(bytes, random.next()));
        std::uint64_t const choice = random.below(16);
        if (choice == 0) {
            sum += transfer.exchange(remove_some(held, random), random);
        } else if (choice == 1) {
            left.push_back(remove_some(held, random));
        } else if (choice <= 12) {
            sum += give_tagged(remove_some(held, random));
        }
        if (!inherited.empty()) {
            sum += give_tagged(inherited.back());
            inherited.pop_back();
        }
    }
    return sum + give_all(held) + give_all(inherited);
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {2, 60, 40};
    parse_arguments(argc, argv, "mstress THREADS [PHASES [SCALE]]", numbers, 1'000'000);
    std::uint64_t const threads = numbers[0];
    std::uint64_t const phases = numbers[1];
    std::uint64_t const allocations = numbers[2] * 1000;
    transfer_array transfer;
    std::vector<block_list> inherited(threads);
    std::vector<block_list> left(threads);
    std::uint64_t sum = 0;
    for (std::uint64_t phase = 0; phase < phases; ++phase) {
        sum += run_threads(threads, [&](std::size_t index) {
            return live(mix(phase * threads + index + 1), allocations, transfer,
                        inherited[(index + 1) % threads], left[index]);
        });
        inherited.swap(left);
    }
    for (block_list& blocks : inherited) {
        sum += give_all(blocks);
    }
    return finish("mstress", sum + transfer.give_rest());
}
