// fragment [MEGABYTES] - how much memory stays resident when sizes change and most blocks go.
//
// Three rounds: grow to MEGABYTES of live blocks (of 16 to 512 bytes, then of 600 to 4,000, then of
// 24 to 96), and free half of the blocks, chosen at random. So from the second round on, blocks
// have to fit where others were. In the end all but one in 32 go, and some work is done on the few
// that are left, scattered over what was the heap. These stay live until the process has ended:
// read its peak and its last resident memory.
//
// Source     the question of M. S. Johnstone, P. R. Wilson, "The Memory Fragmentation Problem:
//            Solved?", ISMM 1998; the pattern is our own
#include <array>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::uint64_t mb = 1'000'000;
constexpr std::size_t last_part = 32;
constexpr std::uint64_t last_replacements = 300'000;

struct size_range {
    std::uint64_t least;
    std::uint64_t most;
};

constexpr std::array<size_range, 3> rounds{{{16, 512}, {600, 4000}, {24, 96}}};

class block_heap {
public:
    explicit block_heap(std::uint64_t most_bytes) : random_{most_bytes} {
        // No list is longer than one that holds only blocks of the last round; their mean size is
        // 60 bytes.
        blocks_.reserve(most_bytes / 48);
    }

    void grow(std::uint64_t live_bytes, size_range sizes) {
        while (live_bytes_ < live_bytes) {
            take(sizes);
        }
    }

    /// Frees random blocks until one in `part` is left.
    void shrink(std::size_t part) {
        shuffle(blocks_, random_);
        for (std::size_t rest = blocks_.size() / part; blocks_.size() > rest;) {
            give_last();
        }
    }

    /// Replaces random blocks by ones of other sizes.
    void replace(std::uint64_t count, size_range sizes) {
        for (; count != 0 && !blocks_.empty(); --count) {
            std::swap(blocks_[random_.below(blocks_.size())], blocks_.back());
            give_last();
            take(sizes);
        }
    }

    /// Of all blocks that were freed.
    [[nodiscard]] std::uint64_t sum() const { return sum_; }

private:
    void take(size_range sizes) {
        std::size_t const bytes = random_.between(sizes.least, sizes.most);
        blocks_.push_back(take_tagged(bytes, random_.next()));
        live_bytes_ += bytes;
    }

    void give_last() {
        std::uint64_t const tag = give_tagged(blocks_.back());
        blocks_.pop_back();
        live_bytes_ -= tag % (std::uint64_t{1} << tag_size_bits);
        sum_ += tag;
    }

    random_stream random_;
    std::vector<void*> blocks_;
    std::uint64_t live_bytes_ = 0;
    std::uint64_t sum_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {64};
    parse_arguments(argc, argv, "fragment [MEGABYTES]", numbers, 16'384);
    // Never deleted: see above. Static, so that a leak checker finds the blocks.
    static block_heap& heap = *new block_heap{numbers[0] * mb};
    for (size_range const sizes : rounds) {
        heap.grow(numbers[0] * mb, sizes);
        heap.shrink(2);
    }
    heap.shrink(last_part);
    heap.replace(last_replacements, rounds[0]);
    return finish("fragment", heap.sum());
}
