// threads.cpp - blocks that one thread allocates and another frees, and threads that have ended.
#include <pthread.h>

#include <array>
#include <atomic>

#include "bug.h"

namespace {

using work = void (*)(void* with);

// Not std::thread, which frees a block of its own in the new thread.
class thread {
public:
    thread() = default;

    thread(work todo, void* with) : call_{.todo = todo, .with = with} {
        pthread_create(&itself_, nullptr, &enter, &call_);
    }

    void join() const { pthread_join(itself_, nullptr); }

private:
    struct call {
        work todo = nullptr;
        void* with = nullptr;
    };

    static void* enter(void* from) {
        auto const* const made = static_cast<call*>(from);
        made->todo(made->with);
        return nullptr;
    }

    call call_;
    pthread_t itself_{};
};

void in_a_thread(work todo, void* with) { thread{todo, with}.join(); }

void write_at_40(void* row) { static_cast<char*>(row)[40] = 'y'; }

void written_by_another() {
    char* const row = block_of(40);  // allocated
    in_a_thread(write_at_40, row);
    free(hide(row));  // found
}

void allocated_by_an_ended_one() {
    char* row = nullptr;
    in_a_thread([](void* to) { *static_cast<char**>(to) = block_of(40); }, &row);  // allocated
    row[40] = 'y';
    barrier();
    free(hide(row));  // found
}

void freed_by_an_ended_one() {
    char* const row = block_of(40);                      // allocated
    in_a_thread([](void* block) { free(block); }, row);  // freed
    write_at_40(row - 36);
}

void all_by_ended_ones() {
    char* row = nullptr;
    in_a_thread([](void* to) { *static_cast<char**>(to) = block_of(40); }, &row);  // allocated
    in_a_thread([](void* block) { free(block); }, row);                            // freed
    in_a_thread(write_at_40, row - 36);
    in_a_thread([](void* block) { free(hide(block)); }, row);  // found 1
}

// One of many threads writes too far, while the others allocate and free in peace.
void one_of_many() {
    static std::atomic<bool> stop{false};
    std::array<thread, 3> others;
    auto const churn = [](void*) {
        std::array<char*, 50> rows{};
        while (!stop.load(std::memory_order_relaxed)) {
            for (char*& row : rows) {
                row = block_of(30);
            }
            for (char* const row : rows) {
                free(hide(row));  // found
            }
        }
    };
    for (thread& each : others) {
        ::new (&each) thread{churn, nullptr};
    }
    in_a_thread(
        [](void*) {
            for (int i = 0; i < 100; ++i) {
                char* const row = block_of(70);  // allocated
                row[69 + (i == 50 ? 3 : 0)] = 'y';
                barrier();
                free(hide(row));  // found
            }
        },
        nullptr);
    stop.store(true, std::memory_order_relaxed);
    for (thread const& each : others) {
        each.join();
    }
}

// All threads free a block of their own twice, at once.
void twice_in_each() {
    static std::atomic<int> to_come{4};
    std::array<thread, 4> others;
    auto const free_twice = [](void*) {
        char* const row = block_of(30);  // allocated
        free(hide(row));                 // freed
        to_come.fetch_sub(1, std::memory_order_acq_rel);
        while (to_come.load(std::memory_order_acquire) != 0) {
        }
        free(hide(row));  // found
    };
    for (thread& each : others) {
        ::new (&each) thread{free_twice, nullptr};
    }
    for (thread const& each : others) {
        each.join();
    }
}

// Two threads free the same block: one of them is the second.
void race_to_free() {
    static std::atomic<int> to_come{2};
    auto const race = [](void* row) {
        to_come.fetch_sub(1, std::memory_order_acq_rel);
        while (to_come.load(std::memory_order_acquire) != 0) {
        }
        free(hide(row));  // freed, found
    };
    char* const row = block_of(30);  // allocated
    thread const first{race, row};
    thread const second{race, row};
    first.join();
    second.join();
}

}  // namespace

struct bug const bugs[] = {{"written_by_another", written_by_another},
                           {"allocated_by_an_ended_one", allocated_by_an_ended_one},
                           {"freed_by_an_ended_one", freed_by_an_ended_one},
                           {"all_by_ended_ones", all_by_ended_ones},
                           {"one_of_many", one_of_many},
                           {"twice_in_each", twice_in_each},
                           {"race_to_free", race_to_free},
                           {nullptr, nullptr}};
