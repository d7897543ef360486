// processes [COUNT] - processes that start, allocate a little and end.
//
// COUNT times, one after the other, the program starts itself as `processes child NUMBER` and waits
// for it. The child allocates 48 blocks of 16 to 4,015 bytes, fills them, frees every second one
// and leaves the others to the system. Its exit status comes from what it reads in the blocks; the
// parent knows which one to expect. So this is what a malloc costs at the start and end of a
// process.
//
// Source     the pattern of shell scripts and builds
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

#include "support.hpp"

namespace {

using namespace bench;

constexpr std::size_t block_count = 48;
constexpr int least_status = 64;  // Far from those of a program that fails.

struct plan {
    std::size_t bytes;
    unsigned char filling;
};

plan next_plan(random_stream& random) {
    std::size_t const bytes = 15 + random.size_up_to(4000);
    return {bytes, static_cast<unsigned char>(random.next())};
}

constexpr int status_of(std::uint64_t sum) { return least_status + static_cast<int>(sum % 61); }

/// What the child with this number has to exit with.
int expected_status(std::uint64_t number) {
    random_stream random{mix(number)};
    std::uint64_t sum = 0;
    for (std::size_t index = 0; index < block_count; ++index) {
        plan const next = next_plan(random);
        sum += next.bytes * next.filling;
    }
    return status_of(sum);
}

struct filled_block {
    unsigned char* address;
    std::size_t bytes;
};

// Static: what a child leaves is no leak.
std::array<filled_block, block_count> blocks;

int be_child(std::uint64_t number) {
    random_stream random{mix(number)};
    for (filled_block& block : blocks) {
        plan const next = next_plan(random);
        block = {static_cast<unsigned char*>(must_allocate(next.bytes)), next.bytes};
        std::memset(block.address, next.filling, next.bytes);
    }
    std::uint64_t sum = 0;
    bool freed = false;
    for (filled_block& block : blocks) {
        for (std::size_t offset = 0; offset < block.bytes; ++offset) {
            sum += block.address[offset];
        }
        if (freed = !freed; freed) {
            std::free(std::exchange(block.address, nullptr));
        }
    }
    return status_of(sum);
}

/// Starts a child and returns its exit status.
int run_child(std::uint64_t number) {
    std::string program = "processes";
    std::string word = "child";
    std::string digits = std::to_string(number);
    std::array<char*, 4> const arguments{program.data(), word.data(), digits.data(), nullptr};
    ::pid_t child = 0;
    if (::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, arguments.data(), ::environ) !=
        0) {
        fail("can't start a process");
    }
    int status = 0;
    if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        fail("a process didn't end by itself");
    }
    return WEXITSTATUS(status);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::string_view{argv[1]} == "child") {
        std::uint64_t number[] = {1};
        parse_arguments(argc - 1, argv + 1, "processes child NUMBER", number);
        return be_child(number[0]);
    }
    std::uint64_t numbers[] = {250};
    parse_arguments(argc, argv, "processes [COUNT]", numbers, 1'000'000);
    std::uint64_t sum = 0;
    for (std::uint64_t number = 1; number <= numbers[0]; ++number) {
        int const status = run_child(number);
        if (status != expected_status(number)) {
            fail("a process ended with a wrong status");
        }
        sum += mix(number << 8 | static_cast<unsigned>(status));
    }
    return finish("processes", sum);
}
