// xmalloc THREADS [BATCHES] - threads that only allocate, and threads that only free.
//
// Half of the threads, at least one, fill BATCHES batches of 256 blocks of 16 to 512 bytes and put
// them into a queue; the others, at least one as well, take them from there and free them. So every
// block is freed by another thread than the one that took it, and always in the same direction.
//
// Source     the pattern of "xmalloc-test" by C. Lever and D. Boreham, "malloc() Performance in a
//            Multithreaded Linux Environment", USENIX 2000; written anew
#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t blocks_per_batch = 256;
constexpr std::size_t queued_batches = 64;

using batch = std::array<void*, blocks_per_batch>;

/// Batches on their way from one half of the threads to the other; a bounded ring.
class batch_queue {
public:
    explicit batch_queue(std::size_t producers) : producers_{producers} {}

    void put(batch const& full) {
        std::unique_lock lock{mutex_};
        not_full_.wait(lock, [this] { return count_ < queued_batches; });
        ring_[(first_ + count_) % queued_batches] = full;
        ++count_;
        lock.unlock();
        not_empty_.notify_one();
    }

    /// False: there is none, and none will come.
    bool take(batch& result) {
        std::unique_lock lock{mutex_};
        not_empty_.wait(lock, [this] { return count_ != 0 || producers_ == 0; });
        if (count_ == 0) {
            return false;
        }
        result = ring_[first_];
        first_ = (first_ + 1) % queued_batches;
        --count_;
        lock.unlock();
        not_full_.notify_one();
        return true;
    }

    /// Each producer's last words.
    void producer_ended() {
        std::lock_guard const lock{mutex_};
        --producers_;
        not_empty_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable not_empty_;
    std::condition_variable not_full_;
    std::array<batch, queued_batches> ring_{};
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    std::size_t producers_;
};

/// Fills the batches first, first + step, ... below `end`: what is in one depends on its number.
void produce(batch_queue& queue, std::uint64_t first, std::uint64_t step, std::uint64_t end) {
    batch blocks{};
    for (std::uint64_t number = first; number < end; number += step) {
        random_stream random{mix(number + 1)};
        for (void*& block : blocks) {
            std::uint64_t const bits = random.next();
            block = take_tagged(16 + bits % 497, bits >> 16);
        }
        queue.put(blocks);
    }
    queue.producer_ended();
}

std::uint64_t consume(batch_queue& queue) {
    std::uint64_t sum = 0;
    batch blocks{};
    while (queue.take(blocks)) {
        for (void* const block : blocks) {
            sum += give_tagged(block);
        }
    }
    return sum;
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {2, 9'000};
    parse_arguments(argc, argv, "xmalloc THREADS [BATCHES]", numbers);
    std::uint64_t const threads = numbers[0];
    std::uint64_t const batches = numbers[1];
    std::size_t const producers = std::max<std::size_t>(threads / 2, 1);
    std::size_t const consumers = std::max<std::size_t>(threads - producers, 1);
    batch_queue queue{producers};
    std::uint64_t const sum =
        run_threads(producers + consumers, [&](std::size_t index) -> std::uint64_t {
            if (index >= producers) {
                return consume(queue);
            }
            produce(queue, index, producers, batches);
            return 0;
        });
    return finish("xmalloc", sum);
}
