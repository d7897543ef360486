// Shows made-up statistics as tarn/live.h says, or against what it says: publisher VARIANT.
//
// Writes "x" to its output when all is set up, a number before it where a variant has one to tell,
// and ends at the end of its input. It uses nothing of Tarn but the header.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>

#include <tarn/live.h>

namespace {

using word = std::atomic_ref<std::uint32_t>;

long futex(std::uint32_t& at, int operation, std::uint32_t value) {
    return ::syscall(SYS_futex, &at, operation, value, nullptr, nullptr, 0);
}

std::uint64_t now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

[[noreturn]] void fail(char const* what) {
    std::perror(what);
    ::_exit(1);
}

int create_file(std::size_t bytes, bool is_sealed) {
    int const file = static_cast<int>(
        ::syscall(SYS_memfd_create, TARN_LIVE_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (file < 0 || ::ftruncate(file, static_cast<off_t>(bytes)) != 0) {
        fail("memfd_create");
    }
    if (is_sealed && ::fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        fail("seal");
    }
    return file;
}

tarn_live& map_file(int file) {
    void* const base =
        ::mmap(nullptr, TARN_LIVE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (base == MAP_FAILED) {
        fail("mmap");
    }
    return *static_cast<tarn_live*>(base);
}

/// Figures that a reader can tell to be of one time: every number is derived from `round`.
void fill(tarn_live& live, std::uint64_t round) {
    tarn_stats& stats = live.stats;
    stats.size = sizeof stats;
    stats.version = TARN_STATS_VERSION;
    stats.process_id = static_cast<std::uint64_t>(::getpid());
    stats.live_bytes = std::uint64_t{64} << 20;
    stats.mapped_bytes = std::uint64_t{96} << 20;
    stats.resident_bytes = std::uint64_t{100} << 20;
    stats.held_by_threads_bytes = std::uint64_t{8} << 20;
    stats.allocations = 1'000'000 + 1000 * round;
    stats.live_blocks = stats.allocations / 2;
    stats.threads = 2;
    stats.class_count = 2;
    live.classes[0] = {.block_bytes = 0,
                       .allocations = round,
                       .live_blocks = 1,
                       .live_bytes = std::uint64_t{32} << 20,
                       .free_blocks = 0,
                       .pages = 1,
                       .page_bytes = std::uint64_t{32} << 20,
                       .requested_bytes = std::uint64_t{32} << 20,
                       .requested_error_bytes = 0,
                       .sampled_blocks = 0};
    live.classes[1] = {.block_bytes = 48,
                       .allocations = stats.allocations,
                       .live_blocks = stats.live_blocks,
                       .live_bytes = 48 * stats.live_blocks,
                       .free_blocks = 17,
                       .pages = 5,
                       .page_bytes = 5 << 16,
                       .requested_bytes = 40 * stats.live_blocks,
                       .requested_error_bytes = stats.live_blocks,
                       .sampled_blocks = 9};
    stats.thread_count = 2;
    live.threads[0] = {.thread_id = static_cast<std::uint64_t>(::getpid()),
                       .allocations = stats.allocations,
                       .cross_thread_frees = 3,
                       .pages = 4,
                       .page_bytes = 4 << 16,
                       .free_bytes = 1 << 20};
    live.threads[1] = {.thread_id = 0,
                       .allocations = 7,
                       .cross_thread_frees = 0,
                       .pages = 1,
                       .page_bytes = 1 << 16,
                       .free_bytes = 7 << 20};
    live.taken_ms = now_ms();
}

/// Publishes figures of `round`, as the answer to all requests so far.
void publish(tarn_live& live, std::uint64_t round) {
    word sequence{live.sequence};
    std::uint32_t const before = sequence.load(std::memory_order_relaxed);
    sequence.store(before + 1, std::memory_order_relaxed);
    // release: pairs with the reader's acquire fence behind its copy.
    std::atomic_thread_fence(std::memory_order_release);
    std::uint32_t const answered = word{live.requests}.load(std::memory_order_acquire);
    fill(live, round);
    live.answered = answered;
    sequence.store(before + 2, std::memory_order_release);
    futex(live.sequence, FUTEX_WAKE, INT_MAX);
}

void wait_for_request(tarn_live& live, std::uint32_t answered) {
    word const requests{live.requests};
    while (requests.load(std::memory_order_acquire) == answered) {
        futex(live.requests, FUTEX_WAIT, answered);
    }
}

void answer_for_ever(tarn_live& live) {
    for (std::uint64_t round = 1;; ++round) {
        wait_for_request(live, live.answered);
        publish(live, round);
    }
}

void publish_for_ever(tarn_live& live) {
    for (std::uint64_t round = 1;; ++round) {
        publish(live, round);
    }
}

void end_when_asked(tarn_live& live) {
    wait_for_request(live, 0);
    ::_exit(0);
}

void begin(tarn_live& live) {
    live.magic = TARN_LIVE_MAGIC;
    live.version = TARN_STATS_VERSION;
    live.process_id = static_cast<std::uint32_t>(::getpid());
}

/// What the variants with one good file do to it, and the thread that they need.
void vary(std::string const& variant, tarn_live& live) {
    if (variant == "answers" || variant == "hidden") {
        std::thread{answer_for_ever, std::ref(live)}.detach();
    } else if (variant == "wraps") {
        live.requests = UINT32_MAX;
        live.answered = UINT32_MAX;
        std::thread{answer_for_ever, std::ref(live)}.detach();
    } else if (variant == "busy") {
        std::thread{publish_for_ever, std::ref(live)}.detach();
    } else if (variant == "dies") {
        std::thread{end_when_asked, std::ref(live)}.detach();
    } else if (variant == "old") {
        live.taken_ms = now_ms() - 3'600'000;
    } else if (variant == "odd") {
        ++live.sequence;
    } else if (variant == "no-figures") {
        live.sequence = 0;
    } else if (variant == "empty") {
        live.magic = 0;
    } else if (variant == "garbage") {
        std::memset(static_cast<void*>(&live), 0xa5, TARN_LIVE_BYTES);
    } else if (variant == "version") {
        live.version = 99;
    } else if (variant == "other-process") {
        live.process_id = 1;
    } else if (variant == "no-sense") {
        live.stats.class_count = UINT64_MAX;
    } else if (variant != "silent" && variant != "fork" && variant != "unsealed") {
        std::fprintf(stderr, "publisher: no variant %s\n", variant.c_str());
        ::_exit(2);
    }
}

/// Tells that all is ready, and waits for the end of the input.
void serve() {
    std::puts("x");
    std::fflush(stdout);
    char letter = 0;
    while (::read(0, &letter, 1) > 0) {
    }
}

/// A child that has inherited the file and tells its number; ends with its parent's input.
void fork_child() {
    pid_t const child = ::fork();
    if (child == 0) {
        char letter = 0;
        while (::read(0, &letter, 1) > 0) {
        }
        ::_exit(0);
    }
    std::printf("%d\n", static_cast<int>(child));
    serve();
    ::waitpid(child, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
    std::string const variant = argc == 2 ? argv[1] : "";
    ::prctl(PR_SET_NAME, "stand\033in");
    if (variant == "short") {
        create_file(4096, true);
        serve();
        return 0;
    }
    tarn_live& live = map_file(create_file(TARN_LIVE_BYTES, variant != "unsealed"));
    begin(live);
    publish(live, 0);
    vary(variant, live);
    if (variant == "hidden") {
        ::prctl(PR_SET_DUMPABLE, 0);
    }
    if (variant == "fork") {
        fork_child();
        return 0;
    }
    serve();
    ::_exit(0);  // without waiting for the other thread
}
