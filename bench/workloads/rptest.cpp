// rptest THREADS [LOOPS] - threads that hold sets of blocks and pass parts of them on in a ring.
//
// In each of LOOPS loops a thread allocates a set of 400 blocks of 16 to 15,999 bytes, every order
// of magnitude as likely as another. It frees half of them at once, passes a quarter to the next
// thread, and keeps the rest for five loops. Every 16 loops all threads meet at a barrier.
//
// Source     the pattern of M. Jansson's benchmark of rpmalloc, "rptest" in mimalloc-bench; written
//            anew
#include <array>
#include <atomic>
#include <barrier>
#include <deque>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t blocks_per_set = 400;
constexpr std::size_t blocks_passed = 100;
constexpr std::size_t blocks_kept = 100;
constexpr std::size_t loops_kept = 5;
constexpr std::uint64_t loops_between_barriers = 16;

/// Frees `count` blocks at `blocks`. Returns the sum of their tags; nothing for empty places.
std::uint64_t give_all(void* const* blocks, std::size_t count) {
    std::uint64_t sum = 0;
    for (; count != 0; --count, ++blocks) {
        sum += *blocks != nullptr ? give_tagged(*blocks) : 0;
    }
    return sum;
}

/// What a thread passes to the next one.
using parcel = std::array<void*, blocks_passed>;

std::uint64_t unpack(parcel* blocks) {
    if (blocks == nullptr) {
        return 0;
    }
    std::uint64_t const sum = give_all(blocks->data(), blocks->size());
    delete blocks;
    return sum;
}

/// Where a thread finds a parcel. On a cache line of its own.
struct alignas(64) letter_box {
    std::atomic<parcel*> content{nullptr};

    /// Puts `sent` there, or null to empty it, and frees what lay there.
    std::uint64_t exchange(parcel* sent) {
        // acq_rel: who takes a parcel sees what its sender wrote to the blocks.
        return unpack(content.exchange(sent, std::memory_order_acq_rel));
    }
};

struct worker {
    worker(std::uint64_t seed, letter_box& own, letter_box& next)
        : random{seed}, own_box{own}, next_box{next} {}

    random_stream random;
    letter_box& own_box;
    letter_box& next_box;
    std::array<std::array<void*, blocks_kept>, loops_kept> kept{};
    std::vector<void*> set = std::vector<void*>(blocks_per_set);
    std::uint64_t sum = 0;

    void loop(std::uint64_t number) {
        for (void*& block : set) {
            std::uint64_t const bytes = 16 * random.size_up_to(999) + random.below(16);
            block = take_tagged(bytes, random.next());
        }
        shuffle(set, random);
        void* const* const passed_on = set.data();
        void* const* const held = passed_on + blocks_passed;
        void* const* const freed = held + blocks_kept;

        auto* const sent = new parcel;
        std::memcpy(sent->data(), passed_on, sizeof *sent);
        sum += next_box.exchange(sent);

        std::array<void*, blocks_kept>& oldest = kept[number % loops_kept];
        sum += give_all(oldest.data(), oldest.size());
        std::memcpy(oldest.data(), held, sizeof oldest);

        sum += give_all(freed, blocks_per_set - blocks_passed - blocks_kept);
        sum += own_box.exchange(nullptr);
    }

    void give_kept() {
        for (auto const& blocks : kept) {
            sum += give_all(blocks.data(), blocks.size());
        }
    }
};

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {2, 4'000};
    parse_arguments(argc, argv, "rptest THREADS [LOOPS]", numbers, 1'000'000);
    std::uint64_t const threads = numbers[0];
    std::uint64_t const loops = numbers[1];
    std::deque<letter_box> boxes(threads);
    std::barrier meeting{static_cast<std::ptrdiff_t>(threads)};
    std::uint64_t sum = run_threads(threads, [&](std::size_t index) {
        worker state{mix(index + 1), boxes[index], boxes[(index + 1) % threads]};
        for (std::uint64_t number = 0; number < loops; ++number) {
            if (number % loops_between_barriers == 0) {
                meeting.arrive_and_wait();
            }
            state.loop(number);
        }
        state.give_kept();
        return state.sum;
    });
    for (letter_box& box : boxes) {
        sum += box.exchange(nullptr);
    }
    return finish("rptest", sum);
}
