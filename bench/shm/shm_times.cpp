// shm_times [ROUNDS] - Tarn's shared pools beside their peers, and beside what the processor
// allows.
//
// Prints, for each row, the median over the rounds (41 by default) of the time of one operation in
// ns, the least and the most. Every round measures every competitor once, some milliseconds each,
// in turns: what disturbs the machine for a while disturbs all alike. Chunks of 256 bytes, of
// 10,000.
//   floor        one atomic operation that no other processor wants
//   magazine     Tarn: a thread's own supply of chunks
//   take, give   Tarn: a chunk for this client alone
//   allocate     Tarn: a chunk that others could be told of, and its release
//   boost        Boost.Interprocess: managed_shared_memory, its default algorithm
//   iceoryx      loan and release of an untyped publisher; its daemon is started for it
// How Tarn fares with two processes, at a death and in attaching, `tarn shm bench` measures.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <tarn/shm.h>
#include <tarn/shm/magazine.hpp>
#include <tarn/shm/pool_manager.hpp>

#if __has_include(<boost/interprocess/managed_shared_memory.hpp>)
#include <boost/interprocess/managed_shared_memory.hpp>
#define TARN_BENCH_BOOST 1
#endif

#ifdef TARN_BENCH_ICEORYX
#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#endif

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves it to the program

namespace {

using clock_type = std::chrono::steady_clock;
using batch = std::function<void(std::uint64_t)>;

constexpr std::uint32_t chunk_count = 10'000;
constexpr std::uint64_t chunk_bytes = 256;
constexpr std::uint64_t in_a_batch = 50'000;

struct competitor {
    std::string name;
    batch run;
    std::vector<double> samples;
};

std::shared_ptr<tarn_shm> make_segment() {
    tarn_shm_pool pool{};
    pool.chunk_bytes = chunk_bytes;
    pool.count = chunk_count;
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    config.pools = &pool;
    config.pool_count = 1;
    tarn_shm_failure failure;
    tarn_shm* const made = tarn_shm_create_anonymous(&config, nullptr, &failure);
    if (made == nullptr) {
        throw std::runtime_error{failure.text};
    }
    return {made, tarn_shm_detach};
}

void add_tarn(std::vector<competitor>& to) {
    std::shared_ptr<tarn_shm> const segment = make_segment();
    to.push_back({"magazine",
                  [segment](std::uint64_t count) {
                      tarn::shm::magazine own{tarn::shm::pool_manager{segment.get()}, 0};
                      for (std::uint64_t i = 0; i < count; ++i) {
                          tarn::shm::magazine_loan const chunk = own.allocate();
                          asm volatile("" : : "r"(&chunk) : "memory");  // somebody looks at it
                      }
                  },
                  {}});
    to.push_back({"take, give",
                  [segment](std::uint64_t count) {
                      tarn_shm_chunk chunk;
                      for (std::uint64_t i = 0; i < count; ++i) {
                          if (tarn_shm_take(segment.get(), 0, 1, &chunk) == 1) {
                              tarn_shm_give(segment.get(), &chunk.reference, 1);
                          }
                      }
                  },
                  {}});
    to.push_back({"allocate",
                  [segment](std::uint64_t count) {
                      tarn_shm_chunk chunk;
                      for (std::uint64_t i = 0; i < count; ++i) {
                          if (tarn_shm_allocate(segment.get(), chunk_bytes, 0, nullptr, &chunk) ==
                              0) {
                              tarn_shm_release(segment.get(), chunk.reference);
                          }
                      }
                  },
                  {}});
}

#ifdef TARN_BENCH_BOOST
void add_boost(std::vector<competitor>& to) {
    namespace ipc = boost::interprocess;

    struct removing {
        std::string name = "tarn-bench-" + std::to_string(::getpid());

        ~removing() { ipc::shared_memory_object::remove(name.c_str()); }
    };

    auto const name = std::make_shared<removing>();
    auto const memory = std::make_shared<ipc::managed_shared_memory>(
        ipc::create_only, name->name.c_str(), std::size_t{chunk_count} * 2 * chunk_bytes);
    to.push_back({"boost",
                  [name, memory](std::uint64_t count) {
                      for (std::uint64_t i = 0; i < count; ++i) {
                          memory->deallocate(memory->allocate(chunk_bytes));
                      }
                  },
                  {}});
}
#endif

#ifdef TARN_BENCH_ICEORYX
/// The daemon without which there are no iceoryx pools.
class roudi {
public:
    roudi() {
        std::string program = "iox-roudi";
        std::string flag = "-l";
        std::string level = "off";
        char* arguments[] = {program.data(), flag.data(), level.data(), nullptr};
        posix_spawn_file_actions_t quietly;
        ::posix_spawn_file_actions_init(&quietly);
        ::posix_spawn_file_actions_addopen(&quietly, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        ::posix_spawn_file_actions_addopen(&quietly, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        int const error =
            ::posix_spawnp(&pid_, program.c_str(), &quietly, nullptr, arguments, environ);
        ::posix_spawn_file_actions_destroy(&quietly);
        if (error != 0) {
            pid_ = 0;
            throw std::runtime_error{"iox-roudi cannot be started"};
        }
    }

    ~roudi() {
        if (pid_ != 0) {
            // Asked to end, it would end its clients first: this program.
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
            ::shm_unlink("/iceoryx_mgmt");
            ::shm_unlink(::getuid() == 0 ? "/root" : "/iceoryx");
        }
    }

    roudi(roudi const&) = delete;
    roudi& operator=(roudi const&) = delete;

private:
    pid_t pid_ = 0;
};

void add_iceoryx(std::vector<competitor>& to) {
    iox::log::LogManager::GetLogManager().SetDefaultLogLevel(
        iox::log::LogLevel::kOff, iox::log::LogLevelOutput::kHideLogLevel);
    auto const daemon = std::make_shared<roudi>();
    iox::runtime::PoshRuntime::initRuntime("tarn-bench");  // waits for the daemon
    auto const publisher = std::make_shared<iox::popo::UntypedPublisher>(
        iox::capro::ServiceDescription{"tarn", "bench", "chunks"});
    to.push_back({"iceoryx",
                  [daemon, publisher](std::uint64_t count) {
                      for (std::uint64_t i = 0; i < count; ++i) {
                          publisher->loan(chunk_bytes).and_then([&](void* chunk) {
                              publisher->release(chunk);
                          });
                      }
                  },
                  {}});
}
#endif

void run_once(competitor& one) {
    clock_type::time_point const start = clock_type::now();
    one.run(in_a_batch);
    one.samples.push_back(
        std::chrono::duration<double, std::nano>(clock_type::now() - start).count() / in_a_batch);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        int const rounds = argc > 1 ? std::atoi(argv[1]) : 41;
        std::vector<competitor> all;
        std::atomic<std::uint64_t> word{0};
        all.push_back({"floor",
                       [&](std::uint64_t count) {
                           for (std::uint64_t i = 0; i < count; ++i) {
                               word.fetch_add(1, std::memory_order_seq_cst);
                           }
                       },
                       {}});
        add_tarn(all);
#ifdef TARN_BENCH_BOOST
        add_boost(all);
#endif
#ifdef TARN_BENCH_ICEORYX
        add_iceoryx(all);
#endif
        for (competitor& each : all) {
            each.run(in_a_batch);  // warm
        }
        for (int i = 0; i < rounds; ++i) {
            for (competitor& each : all) {
                run_once(each);
            }
        }
        for (competitor& each : all) {
            std::sort(each.samples.begin(), each.samples.end());
            std::printf("%-12s %8.1f ns  (%.1f to %.1f)\n", each.name.c_str(),
                        each.samples[each.samples.size() / 2], each.samples.front(),
                        each.samples.back());
        }
        return 0;
    } catch (std::exception const& error) {
        static_cast<void>(std::fprintf(stderr, "shm_times: %s\n", error.what()));
        return 1;
    }
}
