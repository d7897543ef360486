// micro [NAME...] - nanoseconds per operation of malloc: the figures with these names, or all.
//
// Prints `NAME VALUE ns` for each. A figure is the least of seven repetitions of about 10 ms each:
// whatever else the machine does can only make one slower, so the least is the best estimate of
// undisturbed time. The loop around the operations, with its random numbers where it has any, is
// part of all figures. What each means is said in the table at the end of this file; a "pair" is
// malloc, a byte written to the block, and free. The figures run in the order of the table, in one
// process, so a later one finds the heap as the earlier ones left it.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <limits>
#include <new>

#include "../workloads/support.hpp"

namespace {

using namespace bench;

constexpr double repetition_ns = 10e6;
constexpr int repetitions = 7;
constexpr std::size_t kib = 1024;

/// Nanoseconds of one operation; operations(count) does `count` of them.
template <class Operations>
double measure(Operations operations) {
    using clock = std::chrono::steady_clock;
    double result_ns = std::numeric_limits<double>::infinity();
    double estimate_ns = result_ns;
    std::uint64_t count = 1;
    for (int repetition = 0; repetition < repetitions;) {
        auto const start = clock::now();
        operations(count);
        std::chrono::duration<double, std::nano> const time = clock::now() - start;
        double const each_ns = time.count() / static_cast<double>(count);
        estimate_ns = std::min(estimate_ns, each_ns);
        double const fitting = repetition_ns / estimate_ns;
        if (static_cast<double>(count) < fitting / 2) {
            // Too few, as at first, and after a time that was long because of something else.
            count = std::min(4 * count, static_cast<std::uint64_t>(fitting));
        } else {
            result_ns = std::min(result_ns, each_ns);
            ++repetition;
        }
    }
    return result_ns;
}

/// A block with a byte written to it.
char* take(std::size_t bytes) {
    char* const block = static_cast<char*>(must_allocate(bytes));
    *block = 1;
    escape(block);
    return block;
}

void do_pairs(std::uint64_t count, std::size_t bytes) {
    for (; count != 0; --count) {
        std::free(take(bytes));
    }
}

double pair(std::size_t bytes) {
    return measure([bytes](std::uint64_t count) { do_pairs(count, bytes); });
}

double new_and_sized_delete(std::size_t bytes) {
    return measure([bytes](std::uint64_t count) {
        for (; count != 0; --count) {
            void* const block = ::operator new(bytes);
            *static_cast<char*>(block) = 1;
            escape(block);
            ::operator delete(block, bytes);
        }
    });
}

double calloc_pair(std::size_t bytes) {
    return measure([bytes](std::uint64_t count) {
        for (; count != 0; --count) {
            void* const block = std::calloc(1, bytes);
            escape(block);
            std::free(block);
        }
    });
}

std::vector<std::uint32_t> numbers_up_to(std::uint32_t count) {
    std::vector<std::uint32_t> numbers(count);
    for (std::uint32_t number = 0; number < count; ++number) {
        numbers[number] = number;
    }
    return numbers;
}

std::vector<std::uint32_t> backwards(std::uint32_t count) {
    std::vector<std::uint32_t> numbers = numbers_up_to(count);
    std::reverse(numbers.begin(), numbers.end());
    return numbers;
}

std::vector<std::uint32_t> shuffled(std::uint32_t count) {
    std::vector<std::uint32_t> numbers = numbers_up_to(count);
    random_stream random{count};
    shuffle(numbers, random);
    return numbers;
}

/// Allocates as many blocks as `order` has numbers, then frees them in this order; per pair.
/// `sizes` are those of the blocks, or the one of all.
double batch(std::vector<std::uint32_t> const& order, std::vector<std::size_t> const& sizes) {
    std::vector<char*> blocks(order.size());
    double const ns = measure([&](std::uint64_t rounds) {
        for (; rounds != 0; --rounds) {
            for (std::size_t index = 0; index < blocks.size(); ++index) {
                blocks[index] = take(sizes[sizes.size() == 1 ? 0 : index]);
            }
            for (std::uint32_t const index : order) {
                std::free(blocks[index]);
            }
        }
    });
    return ns / static_cast<double>(order.size());
}

std::vector<std::size_t> mixed_sizes(std::size_t count, std::size_t least, std::size_t most) {
    random_stream random{count};
    std::vector<std::size_t> sizes(count);
    for (std::size_t& size : sizes) {
        size = random.between(least, most);
    }
    return sizes;
}

/// Replaces a random one of `live` blocks of 1 to `most` bytes; `most` is a power of two.
double churn(std::size_t live, std::size_t most) {
    random_stream random{live};
    std::vector<char*> blocks(live);
    for (char*& block : blocks) {
        block = take(random.between(1, most));
    }
    double const ns = measure([&](std::uint64_t count) {
        for (; count != 0; --count) {
            // One number for both, and no division: the malloc is to be seen, not these.
            std::uint64_t const bits = random.next();
            char*& block = blocks[(bits >> 32) * live >> 32];
            std::free(block);
            block = take(1 + bits % most);
        }
    });
    for (char* const block : blocks) {
        std::free(block);
    }
    return ns;
}

/// Spins for a moment, then lets others run: the other thread may want this very core.
template <class Condition>
void wait_until(Condition condition) {
    constexpr unsigned spins_before_yield = 100;
    for (unsigned spins = 0; !condition(); ++spins) {
        if (spins >= spins_before_yield) {
            std::this_thread::yield();
        }
    }
}

/// From one thread to one other. A slot without a block is null.
/// Source     J. Giacomoni, T. Moseley, M. Vachharajani, "FastForward for Efficient Pipeline
///            Parallelism", PPoPP 2008
class block_ring {
public:
    void put(void* block) {
        std::atomic<void*>& slot = slots_[put_++ % slots_.size()];
        // acquire: pairs with take(), which is done with the slot.
        wait_until([&slot] { return slot.load(std::memory_order_acquire) == nullptr; });
        slot.store(block, std::memory_order_release);
    }

    void* take() {
        std::atomic<void*>& slot = slots_[taken_++ % slots_.size()];
        // acquire: pairs with put(); what was written to the block is visible.
        wait_until([&slot] { return slot.load(std::memory_order_acquire) != nullptr; });
        void* const block = slot.load(std::memory_order_relaxed);
        slot.store(nullptr, std::memory_order_release);
        return block;
    }

private:
    std::array<std::atomic<void*>, 4096> slots_{};
    alignas(64) std::size_t put_ = 0;
    alignas(64) std::size_t taken_ = 0;
};

double producer_and_consumer(std::size_t bytes) {
    static block_ring ring;
    return measure([bytes](std::uint64_t count) {
        std::thread consumer{[count] {
            for (std::uint64_t rest = count; rest != 0; --rest) {
                std::free(ring.take());
            }
        }};
        for (std::uint64_t rest = count; rest != 0; --rest) {
            ring.put(take(bytes));
        }
        consumer.join();
    });
}

double pairs_in_two_threads(std::size_t bytes) {
    return measure([bytes](std::uint64_t count) {
        run_threads(2, [bytes, count](std::size_t /*index*/) -> std::uint64_t {
            do_pairs(count, bytes);
            return 0;
        });
    });
}

double short_thread(std::size_t bytes) {
    return measure([bytes](std::uint64_t count) {
        for (; count != 0; --count) {
            std::thread{[bytes] {
                std::array<char*, 64> blocks{};
                for (char*& block : blocks) {
                    block = take(bytes);
                }
                for (char* const block : blocks) {
                    std::free(block);
                }
            }}.join();
        }
    });
}

double touch(std::size_t bytes) {
    return measure([bytes](std::uint64_t count) {
        for (; count != 0; --count) {
            char* const block = take(bytes);
            for (std::size_t offset = 0; offset < bytes; offset += 4 * kib) {
                block[offset] = 1;
            }
            escape(block);
            std::free(block);
        }
    });
}

double growth(std::size_t first_bytes, std::size_t last_bytes) {
    return measure([=](std::uint64_t count) {
        for (; count != 0; --count) {
            char* block = take(first_bytes);
            for (std::size_t bytes = 2 * first_bytes; bytes <= last_bytes; bytes *= 2) {
                void* const moved = std::realloc(block, bytes);
                if (moved == nullptr) {
                    fail("out of memory");
                }
                block = static_cast<char*>(moved);
                block[bytes - 1] = 1;
                escape(block);
            }
            std::free(block);
        }
    });
}

struct figure {
    char const* name;
    double (*value_ns)();
};

constexpr std::array figures{
    // Pairs of one size, one after the other.
    figure{"pair16", [] { return pair(16); }},
    figure{"pair256", [] { return pair(256); }},
    figure{"pair4k", [] { return pair(4 * kib); }},
    figure{"pair64k", [] { return pair(64 * kib); }},
    // operator new and operator delete with the size, otherwise as above.
    figure{"newdel48", [] { return new_and_sized_delete(48); }},
    // Per pair: 1,000 blocks allocated, then freed, the last one first, the first one first, in
    // random order; then with random sizes of 16 to 1,024 bytes.
    figure{"lifo1000_16", [] { return batch(backwards(1000), {16}); }},
    figure{"fifo1000_16", [] { return batch(numbers_up_to(1000), {16}); }},
    figure{"random1000_16", [] { return batch(shuffled(1000), {16}); }},
    figure{"random1000_mixed", [] { return batch(shuffled(1000), mixed_sizes(1000, 16, 1024)); }},
    // The same with 200,000 blocks, in random order: far more than fits into caches.
    figure{"live200k_64", [] { return batch(shuffled(200'000), {64}); }},
    // A random one of so many live blocks, of random sizes of up to 512 or 256 bytes, replaced.
    figure{"churn10k_512", [] { return churn(10'000, 512); }},
    figure{"churn500k_256", [] { return churn(500'000, 256); }},
    // Per block that one thread allocates and another one frees; passed through a ring of 4,096.
    figure{"prodcons64", [] { return producer_and_consumer(64); }},
    // Pairs in two threads at once: per pair of each.
    figure{"two_pair16", [] { return pairs_in_two_threads(16); }},
    // Per thread: start it, allocate 64 blocks in it, free them, join it.
    figure{"thread64", [] { return short_thread(64); }},
    // calloc and free.
    figure{"calloc4k", [] { return calloc_pair(4 * kib); }},
    // malloc of 1 MiB, a byte written to each 4 KiB of it, free.
    figure{"touch1m", [] { return touch(kib * kib); }},
    // Per growth: 16 bytes doubled by realloc until they are 1 MiB, the last byte written each
    // time, free.
    figure{"realloc1m", [] { return growth(16, kib * kib); }},
};

/// The program ends here when a name is that of no figure.
void check_names(int argc, char** argv) {
    for (int index = 1; index < argc; ++index) {
        std::string_view const name{argv[index]};
        if (std::none_of(figures.begin(), figures.end(),
                         [name](figure const& known) { return known.name == name; })) {
            std::fprintf(stderr, "usage: micro [NAME...]\nThe names are:");
            for (figure const& known : figures) {
                std::fprintf(stderr, " %s", known.name);
            }
            std::fprintf(stderr, "\n");
            std::exit(2);  // NOLINT(concurrency-mt-unsafe): nothing registers exit handlers
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    check_names(argc, argv);
    for (figure const& next : figures) {
        bool wanted = argc <= 1;
        for (int index = 1; index < argc; ++index) {
            wanted = wanted || next.name == std::string_view{argv[index]};
        }
        if (wanted && (std::printf("%s %.2f ns\n", next.name, next.value_ns()) < 0 ||
                       std::fflush(stdout) != 0)) {
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}
