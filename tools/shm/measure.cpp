#include "shm/measure.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <system_error>

#include <tarn/shm.h>
#include <tarn/shm/magazine.hpp>
#include <tarn/shm/pool_manager.hpp>

namespace tarn::shared {

namespace {

using clock = std::chrono::steady_clock;

constexpr std::uint32_t chunk_count = 10'000;
constexpr std::uint64_t chunk_bytes = 256;

double nanoseconds_since(clock::time_point start) {
    return std::chrono::duration<double, std::nano>(clock::now() - start).count();
}

struct detaching {
    void operator()(tarn_shm* client) const noexcept { tarn_shm_detach(client); }
};

using attached = std::unique_ptr<tarn_shm, detaching>;

attached checked(tarn_shm* client, tarn_shm_failure const& failure) {
    if (client == nullptr) {
        throw std::runtime_error{failure.text};
    }
    return attached{client};
}

attached make_segment() {
    tarn_shm_pool pool{};
    pool.chunk_bytes = chunk_bytes;
    pool.count = chunk_count;
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    config.pools = &pool;
    config.pool_count = 1;
    tarn_shm_failure failure;
    return checked(tarn_shm_create_anonymous(&config, nullptr, &failure), failure);
}

attached attach_again(attached const& to) {
    tarn_shm_failure failure;
    return checked(tarn_shm_attach_descriptor(tarn_shm_descriptor(to.get()), nullptr, &failure),
                   failure);
}

/// What two processes see, on a line of its own for each word.
struct shared_page {
    alignas(128) std::atomic<std::uint64_t> ball;
    alignas(128) std::atomic<std::uint32_t> ready;
    alignas(128) std::atomic<std::uint32_t> go;
};

class shared_room {
public:
    shared_room()
        : page_{::mmap(nullptr, sizeof(shared_page), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0)} {
        if (page_ == MAP_FAILED) {
            throw std::system_error{errno, std::generic_category(), "mmap"};
        }
    }

    ~shared_room() { ::munmap(page_, sizeof(shared_page)); }

    shared_room(shared_room const&) = delete;
    shared_room& operator=(shared_room const&) = delete;

    shared_page* operator->() const { return static_cast<shared_page*>(page_); }

private:
    void* page_;
};

void stay_on(unsigned processor) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    static_cast<void>(::sched_setaffinity(0, sizeof one, &one));
}

/// A child that runs `work` and ends; waited for, whatever happens.
class child_process {
public:
    explicit child_process(std::function<void()> const& work) : pid_{::fork()} {
        if (pid_ < 0) {
            throw std::system_error{errno, std::generic_category(), "fork"};
        }
        if (pid_ == 0) {
            try {
                work();
            } catch (...) {
                ::_exit(1);
            }
            ::_exit(0);
        }
    }

    ~child_process() {
        if (std::uncaught_exceptions() > 0) {
            ::kill(pid_, SIGKILL);  // what it waits for does not come either
        }
        while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
        }
    }

    child_process(child_process const&) = delete;
    child_process& operator=(child_process const&) = delete;

    /// Throws where it has: what is waited for does not come.
    void require_alive() const {
        siginfo_t ended{};
        if (::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ended.si_pid == pid_ && (ended.si_code != CLD_EXITED || ended.si_status != 0)) {
            throw std::runtime_error{"a process that measures has failed"};
        }
    }

private:
    pid_t pid_;
};

measured of_samples(std::string what, std::string unit, std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    return {.what = std::move(what),
            .unit = std::move(unit),
            .median = samples[samples.size() / 2],
            .least = samples.front(),
            .most = samples.back()};
}

/// Back and forth between two processes, the time of one way.
measured measure_line(measuring const& how) {
    shared_room room;
    std::uint64_t const each =
        std::max<std::uint64_t>(how.rounds / 10 / static_cast<std::uint64_t>(how.batches), 1);
    std::uint64_t const end = each * static_cast<std::uint64_t>(how.batches) * 2;
    auto const play = [&](std::uint64_t parity, std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) {
            std::uint64_t seen = room->ball.load(std::memory_order_acquire);
            while (seen % 2 != parity && seen < end) {
                seen = room->ball.load(std::memory_order_acquire);
            }
            // release: pairs with the acquire above, on the other side.
            room->ball.store(seen + 1, std::memory_order_release);
        }
    };
    child_process const other{[&] {
        stay_on(1);
        play(1, end / 2);
    }};
    std::vector<double> samples;
    for (int i = 0; i < how.batches; ++i) {
        clock::time_point const start = clock::now();
        play(0, each);
        samples.push_back(nanoseconds_since(start) / static_cast<double>(each) / 2);
    }
    return of_samples("floor: a cache line's way to another processor", "ns", samples);
}

void take_and_give(tarn_shm* client, std::uint64_t count) {
    tarn_shm_chunk chunk;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (tarn_shm_take(client, 0, 1, &chunk) == 1) {
            tarn_shm_give(client, &chunk.reference, 1);
        }
    }
}

/// Million pairs a second of `processes` together.
measured measure_together(attached const& segment, unsigned processes, measuring const& how) {
    std::vector<double> samples;
    std::uint64_t const each = how.rounds / static_cast<std::uint64_t>(how.batches);
    for (int i = 0; i < how.batches; ++i) {
        shared_room room;
        clock::time_point start;
        {
            std::vector<std::unique_ptr<child_process>> children;
            for (unsigned number = 0; number < processes; ++number) {
                children.push_back(std::make_unique<child_process>([&, number] {
                    stay_on(number);
                    attached const mine = attach_again(segment);
                    take_and_give(mine.get(), 1000);
                    room->ready.fetch_add(1, std::memory_order_acq_rel);
                    while (room->go.load(std::memory_order_acquire) == 0) {
                    }
                    take_and_give(mine.get(), each);
                    room->ready.fetch_sub(1, std::memory_order_acq_rel);
                }));
            }
            while (room->ready.load(std::memory_order_acquire) != processes) {
                for (auto const& child : children) {
                    child->require_alive();
                }
                ::sched_yield();
            }
            start = clock::now();
            room->go.store(1, std::memory_order_release);
            while (room->ready.load(std::memory_order_acquire) != 0) {
                for (auto const& child : children) {
                    child->require_alive();
                }
                ::sched_yield();
            }
            samples.push_back(static_cast<double>(each) * processes * 1000 /
                              nanoseconds_since(start));
        }
    }
    return of_samples(
        processes == 1 ? "take and give, one process" : "take and give, two processes", "million/s",
        samples);
}

measured measure_recovery(attached const& segment, measuring const& how) {
    std::vector<double> samples;
    for (int i = 0; i < how.batches; ++i) {
        {
            child_process const dying{[&] {
                attached mine = attach_again(segment);
                tarn_shm_chunk chunk;
                while (tarn_shm_allocate(mine.get(), 1, 0, nullptr, &chunk) == 0) {
                }
                static_cast<void>(mine.release());  // as if killed
            }};
        }
        clock::time_point const start = clock::now();
        if (tarn_shm_recover(segment.get()) != 1) {
            throw std::runtime_error{"the death of a client was not found"};
        }
        samples.push_back(nanoseconds_since(start) / 1000);
    }
    return of_samples("recovery of a death with 10,000 chunks", "us", samples);
}

measured measure_attach(attached const& segment, measuring const& how) {
    std::vector<double> samples;
    for (int i = 0; i < how.batches; ++i) {
        clock::time_point const start = clock::now();
        attached const again = attach_again(segment);
        samples.push_back(nanoseconds_since(start) / 1000);
    }
    return of_samples("attach", "us", samples);
}

}  // namespace

measured measure(std::string what, measuring const& how,
                 std::function<void(std::uint64_t)> const& batch) {
    std::uint64_t const each =
        std::max<std::uint64_t>(how.rounds / static_cast<std::uint64_t>(how.batches), 1);
    std::vector<double> samples;
    batch(each / 10 + 1);
    for (int i = 0; i < how.batches; ++i) {
        clock::time_point const start = clock::now();
        batch(each);
        samples.push_back(nanoseconds_since(start) / static_cast<double>(each));
    }
    return of_samples(std::move(what), "ns", samples);
}

std::vector<measured> measure_all(measuring const& how) {
    std::vector<measured> all;
    all.push_back(measure_line(how));
    std::atomic<std::uint64_t> word{0};
    all.push_back(measure("floor: an atomic operation", how, [&](std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) {
            word.fetch_add(1, std::memory_order_seq_cst);
        }
    }));
    attached const segment = make_segment();
    all.push_back(measure("magazine: allocate and give back", how, [&](std::uint64_t count) {
        shm::magazine own{shm::pool_manager{segment.get()}, 0};
        for (std::uint64_t i = 0; i < count; ++i) {
            shm::magazine_loan const chunk = own.allocate();
            asm volatile("" : : "r"(&chunk) : "memory");  // somebody looks at it
        }
    }));
    all.push_back(measure("take and give", how,
                          [&](std::uint64_t count) { take_and_give(segment.get(), count); }));
    all.push_back(measure("allocate and release", how, [&](std::uint64_t count) {
        tarn_shm_chunk chunk;
        for (std::uint64_t i = 0; i < count; ++i) {
            if (tarn_shm_allocate(segment.get(), chunk_bytes, 0, nullptr, &chunk) == 0) {
                static_cast<void>(tarn_shm_release(segment.get(), chunk.reference));
            }
        }
    }));
    attached const other = attach_again(segment);
    all.push_back(measure("allocate, hold elsewhere, release both", how, [&](std::uint64_t count) {
        tarn_shm_chunk chunk;
        tarn_shm_chunk held;
        for (std::uint64_t i = 0; i < count; ++i) {
            if (tarn_shm_allocate(segment.get(), chunk_bytes, 0, nullptr, &chunk) == 0) {
                static_cast<void>(tarn_shm_hold(other.get(), chunk.reference, &held));
                static_cast<void>(tarn_shm_release(segment.get(), chunk.reference));
                static_cast<void>(tarn_shm_release(other.get(), chunk.reference));
            }
        }
    }));
    all.push_back(measure_together(segment, 1, how));
    all.push_back(measure_together(segment, 2, how));
    all.push_back(measure_attach(segment, how));
    all.push_back(measure_recovery(segment, how));
    return all;
}

}  // namespace tarn::shared
