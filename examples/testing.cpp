// Tests of a queue's promises about memory: sound when allocations fail, quiet once it is warm.
#include <cstdint>
#include <cstdio>
#include <memory_resource>
#include <new>
#include <vector>

#include <tarn/memory_resource.hpp>
#include <tarn/testing.hpp>

namespace {

class queue {
public:
    void reserve(std::size_t count) { jobs_.reserve(count); }

    void push(int job) { jobs_.push_back(job); }

    void pop() { jobs_.erase(jobs_.begin()); }

private:
    std::pmr::vector<int> jobs_{tarn::malloc_resource()};
};

bool survives_failures() {
    bool sound = true;
    std::uint64_t const failures = tarn::for_each_failure(
        [] {
            queue tested;
            for (int job = 0; job < 100; ++job) {
                tested.push(job);
            }
        },
        [&sound](tarn::failure_run const& run) {
            if (run.counts.live_blocks() != 0) {
                std::printf("leaks when allocation %ju fails\n", std::uintmax_t{run.nth});
                sound = false;
            }
        });
    std::printf("%ju allocations, each failed once\n", std::uintmax_t{failures});
    return sound && failures > 0;
}

void works_without_memory() {
    queue tested;
    tested.reserve(100);
    // Ends the process with the name of whoever allocates here.
    tarn::no_alloc_scope const quiet{{.name = "warm queue"}};
    for (int job = 0; job < 1000; ++job) {
        tested.push(job);
        tested.pop();
    }
}

bool allocates_once() {
    // The same as a check of GoogleTest would be EXPECT_EQ(counts.allocations, 1).
    tarn::allocation_counts const counts = tarn::count_allocations([] {
        queue tested;
        tested.reserve(100);
    });
    return counts.allocations == 1 && counts.live_bytes() == 0;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): what has no memory outside of its tests ends
int main() {
    bool const sound = survives_failures();
    works_without_memory();

    // Random failures; the seed repeats them.
    tarn::fail_plan const plan = tarn::fail_plan::randomly(0.5, 7);
    int failed = 0;
    for (int round = 0; round < 2; ++round) {
        int now = 0;
        tarn::fail_scope const scope{plan};
        for (int i = 0; i < 20; ++i) {
            void* const block = tarn_malloc(100);
            now += block == nullptr ? 1 : 0;
            tarn_free(block);
        }
        if (round == 1 && now != failed) {
            return 1;
        }
        failed = now;
    }
    std::printf("%d of 20 failed, both times\n", failed);
    return sound && allocates_once() ? 0 : 1;
}
