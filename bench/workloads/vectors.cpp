// vectors [COUNT [MOST]] - arrays that grow, in each other's way.
//
// COUNT arrays, 64 at a time, start at 16 bytes and end at up to MOST bytes, every order of
// magnitude as likely as another. A random one at a time grows: by half, to the double or by a
// constant step, with realloc, or, one in four, by push_back to a std::vector. So a neighbour is
// often where an array could have grown in place. The contents are sampled after each growth and
// compared as a whole at the end.
//
// Source     no paper: what std::vector and the growing buffers of C programs ask of an allocator
#include <algorithm>
#include <array>
#include <utility>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t live_arrays = 64;
constexpr std::size_t first_elements = 2;
constexpr std::size_t constant_steps = 48;  // to the end, of at least first_elements each
constexpr std::size_t samples = 16;

using element = std::uint64_t;

enum class growth : std::uint64_t { half, twice, constant, pushed };
constexpr std::uint64_t growths = 4;

/// What an array with this tag holds at `index`.
constexpr element expected(std::uint64_t tag, std::size_t index) noexcept {
    return tag + index * tarn::test::golden_ratio_bits;
}

/// An array that grows by realloc.
class plain_array {
public:
    plain_array() noexcept = default;
    plain_array(plain_array const&) = delete;
    plain_array& operator=(plain_array const&) = delete;

    ~plain_array() { std::free(elements_); }

    void grow(std::size_t count) {
        void* const moved = std::realloc(elements_, count * sizeof(element));
        if (moved == nullptr) {
            fail("out of memory");
        }
        elements_ = static_cast<element*>(moved);
    }

    void clear() noexcept { std::free(std::exchange(elements_, nullptr)); }

    element& operator[](std::size_t index) noexcept { return elements_[index]; }

private:
    element* elements_ = nullptr;
};

/// Grows to one goal after another.
class growing {
public:
    void start(random_stream& random, std::size_t most) {
        tag_ = random.next();
        goal_ = first_elements + random.size_up_to(most) / sizeof(element);
        kind_ = static_cast<growth>(random.below(growths));
        extend(first_elements);
    }

    [[nodiscard]] bool is_done() const noexcept { return size_ == goal_; }

    void step() {
        std::size_t next = size_ * 2;
        if (kind_ == growth::half) {
            next = size_ + size_ / 2;
        } else if (kind_ == growth::constant) {
            next = size_ + std::max(goal_ / constant_steps, first_elements);
        }
        std::size_t const before = size_;
        extend(std::min(next, goal_));
        for (std::size_t sample = 0; sample < samples; ++sample) {
            check(before * sample / samples);
        }
        check(before - 1);
    }

    /// Compares all elements and frees them; returns what depends on how many they were.
    std::uint64_t end() {
        for (std::size_t index = 0; index < size_; ++index) {
            check(index);
        }
        plain_.clear();
        pushed_ = {};
        return mix(tag_ + std::exchange(size_, 0));
    }

private:
    element at(std::size_t index) noexcept {
        return kind_ == growth::pushed ? pushed_[index] : plain_[index];
    }

    void check(std::size_t index) {
        if (at(index) != expected(tag_, index)) {
            fail("an array was overwritten");
        }
    }

    void extend(std::size_t count) {
        if (kind_ != growth::pushed) {
            plain_.grow(count);
        }
        for (; size_ < count; ++size_) {
            if (kind_ == growth::pushed) {
                pushed_.push_back(expected(tag_, size_));
            } else {
                plain_[size_] = expected(tag_, size_);
            }
        }
    }

    growth kind_ = growth::half;
    std::uint64_t tag_ = 0;
    std::size_t size_ = 0;
    std::size_t goal_ = 0;
    plain_array plain_;
    std::vector<element> pushed_;
};

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {2'000, 2 << 20};
    parse_arguments(argc, argv, "vectors [COUNT [MOST]]", numbers);
    auto const [count, most] = numbers;
    random_stream random{1};
    std::array<growing, live_arrays> arrays;
    for (growing& each : arrays) {
        each.start(random, most);
    }
    std::uint64_t checksum = 0;
    for (std::uint64_t left = count; left != 0;) {
        growing& chosen = arrays[random.below(live_arrays)];
        if (!chosen.is_done()) {
            chosen.step();
            continue;
        }
        checksum += chosen.end();
        chosen.start(random, most);
        --left;
    }
    for (growing& each : arrays) {
        checksum += each.end();
    }
    return finish("vectors", checksum);
}
