// threads [COUNT] - threads that start, allocate a little and end.
//
// COUNT threads, four of them at a time. Each allocates 100 blocks of 16 to 4,015 bytes, small ones
// likelier, frees half of them on the way and most of the others at its end. Four outlive it, and
// the main thread frees them: what a malloc keeps for a thread has to be made, drained and reused.
//
// Source     the pattern of servers with a thread for each request; cf. the thread start tests of
//            C. Lever and D. Boreham, "malloc() Performance in a Multithreaded Linux Environment",
//            USENIX 2000
#include <algorithm>
#include <array>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t concurrent_threads = 4;
constexpr std::size_t blocks_per_thread = 100;
constexpr std::size_t blocks_left = 4;

class short_life {
public:
    void start(std::uint64_t seed) {
        thread_ = std::thread{[this, seed] { live(seed); }};
    }

    /// Waits for its end, if it was started, and frees what it left. Returns the sum of all tags.
    std::uint64_t end() {
        if (!thread_.joinable()) {
            return 0;
        }
        thread_.join();
        for (void* const block : left_) {
            sum_ += give_tagged(block);
        }
        return std::exchange(sum_, 0);
    }

private:
    void live(std::uint64_t seed) {
        random_stream random{seed};
        std::array<void*, blocks_per_thread> blocks{};
        for (std::size_t index = 0; index < blocks_per_thread; ++index) {
            std::size_t const bytes = 15 + random.size_up_to(4000);
            blocks[index] = take_tagged(bytes, random.next());
            if (index % 2 != 0) {
                sum_ += give_tagged(blocks[index / 2]);
            }
        }
        std::size_t const end = blocks_per_thread - blocks_left;
        for (std::size_t index = blocks_per_thread / 2; index < end; ++index) {
            sum_ += give_tagged(blocks[index]);
        }
        std::copy(blocks.begin() + end, blocks.end(), left_.begin());
    }

    std::thread thread_;
    std::array<void*, blocks_left> left_{};
    std::uint64_t sum_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {6000};
    parse_arguments(argc, argv, "threads [COUNT]", numbers);
    std::array<short_life, concurrent_threads> lives;
    std::uint64_t sum = 0;
    for (std::uint64_t number = 1; number <= numbers[0]; ++number) {
        short_life& life = lives[number % concurrent_threads];
        sum += life.end();
        life.start(mix(number));
    }
    for (short_life& life : lives) {
        sum += life.end();
    }
    return finish("threads", sum);
}
