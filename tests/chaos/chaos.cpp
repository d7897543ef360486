// chaos - random operations of several threads against a shadow model, from one seed.
//
//   chaos [--seed N] [--threads T] [--operations N | --seconds S] [--generation N] [--turns]
//
// What   Each lane owns a table of blocks and draws operations from its own stream: every
// allocating,
//        every freeing function, realloc, check, and handing a block to another lane through a
//        mailbox. A lane lives through several threads: after --generation steps one ends, and the
//        next goes on with its table.
// Model  a record per block, apart from it: size, alignment and the seed of the pattern it carries.
//        The pattern is checked before a block changes hands, size, or is freed; calloc is checked
//        to be zero. At the end every block is freed and the statistics must be back at the start.
// Replay a lane's operations depend on seed and lane alone. With --turns only one lane moves at a
//        time, in an order drawn from the seed, so the whole run repeats; and live ranges are
//        checked for overlap.
// Soak   TARN_SOAK=1 multiplies the operations by 100
// Status 0 all held; 1 with one line that says what broke, where and the seed; 2 wrong use. An
// alarm
//        ends what hangs.
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <semaphore>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tarn/tarn.h"

#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "support/shadow_map.hpp"
#include "support/sizes.hpp"

namespace tarn::test {
namespace {

constexpr unsigned lanes_max = 64;
constexpr unsigned slots_per_lane = 256;
constexpr unsigned mailboxes = 64;
constexpr unsigned hang_seconds = 60;

struct options {
    std::uint64_t seed = 0;
    unsigned threads = 4;
    std::uint64_t operations = 20'000;  // per lane
    double seconds = 0;                 // instead of operations, where positive
    std::uint64_t generation = 5'000;   // operations of one thread
    bool turns = false;
};

struct record {
    void* start = nullptr;
    std::size_t bytes = 0;
    std::size_t alignment = 0;  // 0: none asked for
    std::uint64_t pattern = 0;
};

[[noreturn]] void fail(options const& run, unsigned lane, std::uint64_t step, record const& block,
                       char const* what) {
    std::fprintf(stderr,
                 "chaos: %s: block %p of %zu bytes, alignment %zu; lane %u, step %llu; "
                 "replay: --seed %llu --threads %u%s\n",
                 what, block.start, block.bytes, block.alignment, lane,
                 static_cast<unsigned long long>(step), static_cast<unsigned long long>(run.seed),
                 run.threads, run.turns ? " --turns" : "");
    std::_Exit(1);
}

/// Lets one lane move at a time, in an order that the seed decides; or all at once.
class baton {
public:
    explicit baton(options const& run) : on_{run.turns}, random_{mix(run.seed) + 1} {
        for (unsigned lane = 0; lane < run.threads; ++lane) {
            running_.push_back(lane);
        }
        if (on_) {
            pass();
        }
    }

    void wait_for_turn(unsigned lane) {
        if (on_) {
            turn_of_[lane]->acquire();
        }
    }

    void end_turn() {
        if (on_) {
            pass();
        }
    }

    /// Ends the last turn of a lane.
    void leave(unsigned lane) {
        if (on_) {
            std::erase(running_, lane);
            if (!running_.empty()) {
                pass();
            }
        }
    }

private:
    void pass() { turn_of_[running_[random_.below(running_.size())]]->release(); }

    static std::array<std::unique_ptr<std::binary_semaphore>, lanes_max> semaphores() {
        std::array<std::unique_ptr<std::binary_semaphore>, lanes_max> made;
        for (auto& semaphore : made) {
            semaphore = std::make_unique<std::binary_semaphore>(0);
        }
        return made;
    }

    bool const on_;
    random_stream random_;  // this and the list belong to the lane whose turn it is
    std::vector<unsigned> running_;
    std::array<std::unique_ptr<std::binary_semaphore>, lanes_max> turn_of_ = semaphores();
};

/// What all lanes share.
struct arena {
    explicit arena(options const& of_run) : run{of_run}, turns{of_run} {}

    options const run;
    baton turns;
    shadow_map shadow;  // only with --turns, by the lane whose turn it is
    std::array<std::atomic<record*>, mailboxes> mail{};
    std::atomic<bool> time_is_up{false};  // relaxed: no data goes with it
};

class lane {
public:
    lane(arena& shared, unsigned number)
        : shared_{shared},
          number_{number},
          random_{mix(shared.run.seed) ^ mix(number + 1)},
          slots_(slots_per_lane) {}

    /// The life of one thread. False when it was the lane's last.
    bool live() {
        options const& run = shared_.run;
        for (std::uint64_t i = 0; i < run.generation && !is_over(); ++i) {
            shared_.turns.wait_for_turn(number_);
            random_stream random{random_.next()};  // so that no step shifts the draws of the next
            step(random);
            ++step_;
            shared_.turns.end_turn();
        }
        if (!is_over()) {
            return true;
        }
        shared_.turns.wait_for_turn(number_);
        for (auto& slot : slots_) {
            drop(slot.release());
        }
        shared_.turns.leave(number_);
        return false;
    }

    /// Checks and frees a block, whoever made it.
    void drop(record* block) {
        std::unique_ptr<record> const owned{block};
        if (owned != nullptr) {
            random_stream random{owned->pattern};
            deallocate(*owned, random);
        }
    }

private:
    [[nodiscard]] bool is_over() const {
        // relaxed: see time_is_up
        return step_ == shared_.run.operations ||
               shared_.time_is_up.load(std::memory_order_relaxed);
    }

    void step(random_stream& random) {
        std::unique_ptr<record>& slot = slots_[random.below(slots_per_lane)];
        auto const choice = random.below(100);
        if (choice < 15) {  // swap with a mailbox: give, take, or both
            // acq_rel: the release makes our block's record visible to whoever takes it, the
            // acquire makes visible what the giver wrote.
            slot.reset(shared_.mail[random.below(mailboxes)].exchange(slot.release(),
                                                                      std::memory_order_acq_rel));
            return;
        }
        if (slot == nullptr) {
            slot = std::make_unique<record>(allocate(random));
            return;
        }
        if (choice < 20) {
            check(*slot);
        } else if (choice < 45) {
            reallocate(*slot, random);
        } else {
            deallocate(*slot, random);
            slot.reset();
        }
    }

    static std::size_t draw_size(random_stream& random) {
        if (random.one_in(2000)) {
            return random.size_up_to(64 * mib);
        }
        return random.size_up_to(random.one_in(50) ? 4 * mib : 40 * kib);
    }

    record allocate(random_stream& random) {
        record block{
            .start = nullptr, .bytes = draw_size(random), .alignment = 0, .pattern = random.next()};
        bool zeroed = false;
        switch (random.below(8)) {
            case 0:
                block.start = tarn_calloc(1, block.bytes);
                zeroed = true;
                break;
            case 1: {
                std::size_t const count = random.between(1, 20);
                block.bytes = block.bytes / count * count;
                block.start = tarn_calloc(count, block.bytes / count);
                zeroed = true;
                break;
            }
            case 2:
                block.alignment = draw_alignment(random);
                block.start = tarn_aligned_alloc(block.alignment, block.bytes);
                break;
            case 3:
                block.alignment = draw_alignment(random);
                if (tarn_posix_memalign(&block.start, block.alignment, block.bytes) != 0) {
                    block.start = nullptr;
                }
                break;
            case 4:
                block.start = tarn_realloc(nullptr, block.bytes);
                break;
            default:
                block.start = tarn_malloc(block.bytes);
                break;
        }
        if (zeroed && block.start != nullptr && first_nonzero(block.start, block.bytes) != intact) {
            stop(block, "calloc's memory is not zero");
        }
        adopt(block);
        return block;
    }

    static std::size_t draw_alignment(random_stream& random) {
        return sizeof(void*) << random.below(random.one_in(100) ? 20 : 11);
    }

    /// Checks a block just returned and writes its pattern.
    void adopt(record const& block) {
        if (block.start == nullptr) {
            stop(block, "out of memory");
        }
        std::size_t const alignment = block.alignment < quantum ? quantum : block.alignment;
        if (reinterpret_cast<std::uintptr_t>(block.start) % alignment != 0) {
            stop(block, "misaligned");
        }
        if (tarn_malloc_usable_size(block.start) < block.bytes) {
            stop(block, "too small");
        }
        if (shared_.run.turns && !shared_.shadow.insert(block.start, block.bytes)) {
            stop(block, "overlaps a live block");
        }
        fill(block.start, block.bytes, block.pattern);
    }

    void check(record const& block) {
        if (first_wrong(block.start, block.bytes, block.pattern) != intact) {
            stop(block, "content changed");
        }
    }

    void forget(record const& block) {
        check(block);
        if (shared_.run.turns && !shared_.shadow.erase(block.start)) {
            stop(block, "unknown to the shadow");
        }
    }

    void reallocate(record& block, random_stream& random) {
        forget(block);
        record next{
            .start = nullptr, .bytes = draw_size(random), .alignment = 0, .pattern = random.next()};
        if (random.one_in(2)) {  // often near the old size: in place, or into the neighbour
            next.bytes = random.between(block.bytes / 2, block.bytes + block.bytes / 2) + 1;
        }
        next.start = random.one_in(4) ? tarn_reallocarray(block.start, next.bytes, 1)
                                      : tarn_realloc(block.start, next.bytes);
        if (next.start != nullptr &&
            first_wrong(next.start, block.bytes, block.pattern, next.bytes) != intact) {
            stop(next, "realloc lost content");
        }
        adopt(next);
        block = next;
    }

    void deallocate(record const& block, random_stream& random) {
        forget(block);
        switch (random.below(8)) {
            case 0:
                if (tarn_realloc(block.start, 0) != nullptr) {
                    stop(block, "realloc to 0 returned a block");
                }
                break;
            case 1:
                if (block.alignment == 0) {
                    tarn_free_sized(block.start, block.bytes);
                } else {
                    tarn_free_aligned_sized(block.start, block.alignment, block.bytes);
                }
                break;
            default:
                tarn_free(block.start);
                break;
        }
    }

    [[noreturn]] void stop(record const& block, char const* what) {
        fail(shared_.run, number_, step_, block, what);
    }

    arena& shared_;
    unsigned const number_;
    random_stream random_;
    std::uint64_t step_ = 0;
    std::vector<std::unique_ptr<record>> slots_;
};

std::uint64_t live_blocks() {
    tarn_stats stats{};
    stats.size = sizeof stats;
    return tarn_stats_get(&stats) == 0 ? stats.live_blocks : ~std::uint64_t{0};
}

int play(options const& run) {
    arena shared{run};
    std::vector<std::unique_ptr<lane>> lanes;
    std::vector<std::thread> threads;
    std::uint64_t const live_before = live_blocks();
    for (unsigned number = 0; number < run.threads; ++number) {
        lanes.push_back(std::make_unique<lane>(shared, number));
        threads.emplace_back([&self = *lanes.back()] {
            bool goes_on = true;
            while (goes_on) {
                std::thread{[&] { goes_on = self.live(); }}.join();
            }
        });
    }
    if (run.seconds > 0) {
        std::this_thread::sleep_for(std::chrono::duration<double>{run.seconds});
        shared.time_is_up.store(true, std::memory_order_relaxed);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (auto& box : shared.mail) {
        // acquire: pairs with the exchange in lane::step
        lanes.front()->drop(box.exchange(nullptr, std::memory_order_acquire));
    }
    if (live_blocks() != live_before) {
        std::fprintf(stderr, "chaos: %llu live blocks at the end, %llu at the start; seed %llu\n",
                     static_cast<unsigned long long>(live_blocks()),
                     static_cast<unsigned long long>(live_before),
                     static_cast<unsigned long long>(run.seed));
        return 1;
    }
    return 0;
}

template <class Number>
bool parse(std::string_view text, Number& number) {
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc{} && end == text.data() + text.size();
}

std::optional<options> parse_arguments(std::vector<std::string_view> const& arguments) {
    options run{.seed = std::uint64_t{std::random_device{}()}};
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        std::string_view const name = arguments[i];
        if (name == "--turns") {
            run.turns = true;
            continue;
        }
        if (++i == arguments.size()) {
            return std::nullopt;
        }
        std::string_view const value = arguments[i];
        bool const known = (name == "--seed" && parse(value, run.seed)) ||
                           (name == "--threads" && parse(value, run.threads)) ||
                           (name == "--operations" && parse(value, run.operations)) ||
                           (name == "--seconds" && parse(value, run.seconds)) ||
                           (name == "--generation" && parse(value, run.generation));
        if (!known) {
            return std::nullopt;
        }
    }
    if (run.threads == 0 || run.threads > lanes_max || run.generation == 0 || run.seconds < 0) {
        return std::nullopt;
    }
    return run;
}

}  // namespace
}  // namespace tarn::test

int main(int argument_count, char** arguments) {
    using namespace tarn::test;
    auto run = parse_arguments({arguments + 1, arguments + argument_count});
    if (!run) {
        std::fprintf(stderr,
                     "usage: chaos [--seed N] [--threads 1-%u] [--operations N | --seconds S] "
                     "[--generation N] [--turns]\n",
                     lanes_max);
        return 2;
    }
    std::uint64_t const asked = run->operations;
    run->operations = run->seconds > 0 ? ~std::uint64_t{0} : scaled(asked);
    std::printf("chaos: seed %llu, %u threads, %llu operations each%s\n",
                static_cast<unsigned long long>(run->seed), run->threads,
                static_cast<unsigned long long>(run->operations), run->turns ? ", in turns" : "");
    std::fflush(stdout);
    ::alarm(soaking() ? 60 * hang_seconds : hang_seconds + static_cast<unsigned>(run->seconds));
    return play(*run);
}
