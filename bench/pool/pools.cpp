// pools [ROUNDS] - Tarn's pools, regions and their resources beside what they would replace.
//
// Prints, for each row, the median over the rounds (41 by default) of the thread's time for one
// operation in ns, and its standard error (from the quartiles: 1.25 * 0.74 * their distance /
// sqrt(rounds)). Every round measures every row and every competitor once, a few milliseconds each,
// in turns: what disturbs the machine for a while disturbs all alike. Competitors:
//   list        a free list through the blocks, as one writes it by hand: no check, no return
//   block_pool, object_pool
//   boost       boost::pool, where its headers are installed
//   pmr         std::pmr::unsynchronized_pool_resource
//   new         the C library's: this program does not replace malloc
// The compiler sees the code of all, but after each operation it must assume that memory changed:
// else it keeps the hand-written list's head in a register, which no program around it could.
#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <string>
#include <unordered_map>

#include <tarn/block_pool.hpp>
#include <tarn/object_pool.hpp>
#include <tarn/pool_resource.hpp>
#include <tarn/region.hpp>

#include "../workloads/support.hpp"

#if __has_include(<boost/pool/pool.hpp>)
#include <boost/pool/pool.hpp>
#define BENCH_HAS_BOOST 1
#endif

namespace {

using namespace bench;

void forget() { asm volatile("" ::: "memory"); }

// ---- what hands blocks out ----

class hand_list {
public:
    explicit hand_list(std::size_t bytes) : bytes_{bytes} {}

    hand_list(hand_list const&) = delete;
    hand_list& operator=(hand_list const&) = delete;

    ~hand_list() {
        for (void* const each : chunks_) {
            std::free(each);
        }
    }

    void* allocate() {
        node* const block = free_;
        if (block != nullptr) {
            free_ = block->next;
            return block;
        }
        if (next_ == end_) {
            next_ = static_cast<char*>(must_allocate(chunk_bytes));
            end_ = next_ + chunk_bytes / bytes_ * bytes_;
            chunks_.push_back(next_);
        }
        void* const fresh = next_;
        next_ += bytes_;
        return fresh;
    }

    void deallocate(void* block) { free_ = ::new (block) node{free_}; }

private:
    static constexpr std::size_t chunk_bytes = std::size_t{64} * 1024;

    struct node {
        node* next;
    };

    node* free_ = nullptr;
    char* next_ = nullptr;
    char* end_ = nullptr;
    std::size_t bytes_;
    std::vector<void*> chunks_;
};

class tarn_blocks {
public:
    explicit tarn_blocks(std::size_t bytes) : pool_{{.block_bytes = bytes, .alignment = 8}} {}

    void* allocate() { return pool_.allocate(); }

    void deallocate(void* block) { pool_.deallocate(block); }

private:
    tarn::block_pool pool_;
};

template <std::size_t Bytes>
class tarn_objects {
public:
    explicit tarn_objects(std::size_t /*bytes*/) {}

    void* allocate() { return pool_.new_element(); }

    void deallocate(void* block) { pool_.delete_element(static_cast<object*>(block)); }

private:
    struct object {
        // Leaves its bytes alone, as the others do; a defaulted one would have them zeroed.
        // NOLINTNEXTLINE(modernize-use-equals-default): see above
        object() noexcept {}

        std::uint64_t words[Bytes / sizeof(std::uint64_t)];
    };

    tarn::object_pool<object> pool_;
};

#if BENCH_HAS_BOOST
class boost_blocks {
public:
    explicit boost_blocks(std::size_t bytes) : pool_{bytes} {}

    void* allocate() { return pool_.malloc(); }

    void deallocate(void* block) { pool_.free(block); }

private:
    boost::pool<> pool_;
};
#endif

class pmr_blocks {
public:
    explicit pmr_blocks(std::size_t bytes) : bytes_{bytes} {}

    void* allocate() { return pool_.allocate(bytes_, 8); }

    void deallocate(void* block) { pool_.deallocate(block, bytes_, 8); }

private:
    std::size_t bytes_;
    std::pmr::unsynchronized_pool_resource pool_;
};

class new_blocks {
public:
    explicit new_blocks(std::size_t bytes) : bytes_{bytes} {}

    [[nodiscard]] void* allocate() const { return ::operator new(bytes_); }

    void deallocate(void* block) const { ::operator delete(block); }

private:
    std::size_t bytes_;
};

// ---- what is done with them: each returns the time of one operation in ns ----

/// Time that this thread ran: others may want the machine, too.
double thread_ns() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

template <class Work>
double time_of(std::size_t operations, Work work) {
    double const start = thread_ns();
    work();
    return (thread_ns() - start) / static_cast<double>(operations);
}

/// A block, a byte written to it.
template <class Blocks>
void* take(Blocks& from) {
    void* const block = from.allocate();
    *static_cast<char volatile*>(block) = 1;
    forget();
    return block;
}

template <class Blocks>
double same_block(std::size_t bytes) {
    constexpr std::size_t count = 500'000;
    auto const from = std::make_unique<Blocks>(bytes);
    return time_of(count, [&] {
        for (std::size_t i = 0; i < count; ++i) {
            from->deallocate(take(*from));
            forget();
        }
    });
}

template <class Blocks>
double batches(std::size_t bytes) {
    constexpr std::size_t in_batch = 1000;
    constexpr std::size_t rounds = 300;
    auto const from = std::make_unique<Blocks>(bytes);
    std::vector<void*> blocks(in_batch);
    return time_of(in_batch * rounds, [&] {
        for (std::size_t i = 0; i < rounds; ++i) {
            for (void*& each : blocks) {
                each = take(*from);
            }
            for (void* const each : blocks) {
                from->deallocate(each);
                forget();
            }
        }
    });
}

template <class Blocks>
double replaced(std::size_t bytes) {
    constexpr std::size_t live = 20'000;
    constexpr std::size_t count = 200'000;
    auto const from = std::make_unique<Blocks>(bytes);
    std::vector<void*> blocks(live);
    for (void*& each : blocks) {
        each = take(*from);
    }
    random_stream random{1};
    std::vector<std::uint32_t> order(count);
    for (std::uint32_t& each : order) {
        each = static_cast<std::uint32_t>(random.below(live));
    }
    return time_of(count, [&] {
        for (std::uint32_t const each : order) {
            from->deallocate(blocks[each]);
            forget();
            blocks[each] = take(*from);
        }
    });
}

template <class Resource>
double list_churn(std::size_t /*bytes*/) {
    constexpr std::size_t live = 20'000;
    Resource resource;
    std::pmr::list<std::uint64_t> list{&resource};
    random_stream random{2};
    for (std::size_t i = 0; i < live; ++i) {
        list.push_back(i);
    }
    std::size_t operations = 0;
    double const pass_ns = time_of(1, [&] {
        for (int pass = 0; pass < 10; ++pass) {
            for (auto at = list.begin(); at != list.end();) {
                if (random.one_in(2)) {
                    at = list.erase(at);
                    list.push_front(operations);
                    ++operations;
                } else {
                    ++at;
                }
            }
        }
    });
    return pass_ns / static_cast<double>(operations);
}

template <class Resource, class Map>
double map_churn(std::size_t /*bytes*/) {
    constexpr std::size_t keys = 20'000;
    constexpr std::size_t count = 100'000;
    Resource resource;
    Map map{&resource};
    random_stream random{3};
    return time_of(count, [&] {
        for (std::size_t i = 0; i < count; ++i) {
            std::uint64_t const key = random.below(keys);
            if (map.erase(key) == 0) {
                map.emplace(key, i);
            }
        }
    });
}

using ordered = std::pmr::map<std::uint64_t, std::uint64_t>;
using hashed = std::pmr::unordered_map<std::uint64_t, std::uint64_t>;

constexpr std::size_t arena_bytes = std::size_t{1} << 20;

/// A pointer and its limit, as one writes them by hand.
double bare_bump(std::size_t bytes) {
    std::vector<char> memory(arena_bytes);

    struct {
        char* next;
        char* limit;
    } bump{memory.data(), memory.data() + memory.size()};

    auto* const from = &bump;
    asm volatile("" : : "r"(from) : "memory");
    std::size_t const count = arena_bytes / bytes - 1;
    return time_of(20 * count, [&] {
        for (int pass = 0; pass < 20; ++pass) {
            for (std::size_t i = 0; i < count; ++i) {
                auto const room = static_cast<std::size_t>(from->limit - from->next);
                if (room < bytes) [[unlikely]] {
                    fail("out of room");
                }
                *from->next = 1;
                from->next += bytes;
                forget();
            }
            from->next = memory.data();
        }
    });
}

double region_bump(std::size_t bytes) {
    tarn::region region{{.initial_bytes = arena_bytes + 4096, .chunk_bytes_max = 2 * arena_bytes}};
    std::size_t const count = arena_bytes / bytes - 1;
    tarn::region_mark const begin = region.mark();
    return time_of(20 * count, [&] {
        for (int pass = 0; pass < 20; ++pass) {
            for (std::size_t i = 0; i < count; ++i) {
                *static_cast<char volatile*>(region.allocate(bytes)) = 1;
                forget();
            }
            region.rewind(begin);
        }
    });
}

// ---- the table ----

struct competitor {
    char const* name;
    std::function<double(std::size_t)> measure;
    std::vector<double> times{};
};

struct row {
    std::string name;
    std::size_t bytes;
    std::vector<competitor> competitors;
};

struct estimate {
    double median;
    double error;
};

estimate estimate_of(std::vector<double> times) {
    std::sort(times.begin(), times.end());
    double const quartiles = times[times.size() * 3 / 4] - times[times.size() / 4];
    return {times[times.size() / 2],
            1.25 * 0.74 * quartiles / std::sqrt(static_cast<double>(times.size()))};
}

template <std::size_t Bytes>
void add_block_rows(std::vector<row>& to) {
    std::string const size = ", " + std::to_string(Bytes) + " bytes";
    auto const add = [&]<class Pattern>(char const* name, Pattern pattern) {
        row added{name + size, Bytes, {}};
        added.competitors.push_back({"list", pattern.template operator()<hand_list>()});
        added.competitors.push_back({"block_pool", pattern.template operator()<tarn_blocks>()});
        added.competitors.push_back(
            {"object_pool", pattern.template operator()<tarn_objects<Bytes>>()});
#if BENCH_HAS_BOOST
        added.competitors.push_back({"boost", pattern.template operator()<boost_blocks>()});
#endif
        added.competitors.push_back({"pmr", pattern.template operator()<pmr_blocks>()});
        added.competitors.push_back({"new", pattern.template operator()<new_blocks>()});
        to.push_back(std::move(added));
    };
    add("the same block", []<class Blocks>() { return &same_block<Blocks>; });
    add("1,000 taken, then freed", []<class Blocks>() { return &batches<Blocks>; });
    add("20,000 live, one replaced", []<class Blocks>() { return &replaced<Blocks>; });
}

std::vector<row> all_rows() {
    using ours = tarn::pool_resource;
    using theirs = std::pmr::unsynchronized_pool_resource;
    std::vector<row> rows;
    add_block_rows<16>(rows);
    add_block_rows<64>(rows);
    add_block_rows<256>(rows);
    rows.push_back({"std::list churn",
                    0,
                    {{"pool_resource", &list_churn<ours>}, {"pmr", &list_churn<theirs>}}});
    rows.push_back(
        {"std::unordered_map churn",
         0,
         {{"pool_resource", &map_churn<ours, hashed>}, {"pmr", &map_churn<theirs, hashed>}}});
    rows.push_back(
        {"std::map churn",
         0,
         {{"pool_resource", &map_churn<ours, ordered>}, {"pmr", &map_churn<theirs, ordered>}}});
    rows.push_back({"bump, 32 bytes", 32, {{"bare", &bare_bump}, {"region", &region_bump}}});
    return rows;
}

void print(row const& of) {
    std::printf("%-36s", of.name.c_str());
    double const first = estimate_of(of.competitors.front().times).median;
    for (competitor const& each : of.competitors) {
        estimate const time = estimate_of(each.times);
        std::printf("  %s %.2f +- %.2f (%.2f)", each.name, time.median, time.error,
                    time.median / first);
    }
    std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t numbers[] = {41};
    parse_arguments(argc, argv, "pools [ROUNDS]", numbers);
    std::vector<row> rows = all_rows();
    for (std::uint64_t round = 0; round < numbers[0]; ++round) {
        for (row& each : rows) {
            for (competitor& one : each.competitors) {
                one.times.push_back(one.measure(each.bytes));
            }
        }
    }
    std::printf("ns for each operation, median +- standard error (ratio to the first), %d rounds\n",
                static_cast<int>(numbers[0]));
    for (row const& each : rows) {
        print(each);
    }
}
