// workloads/support.hpp - what the programs in bench/workloads share.
//
// A workload does a fixed amount of work, given by its arguments, and prints one line that depends
// on these alone: not on addresses, time, the order of threads, or what malloc is under it. `tarn
// compare` times it from outside, as a whole process, and voids a run with another line.
//
// Threads    everything here belongs to one thread, except run_threads()
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "support/random.hpp"

namespace bench {

using tarn::test::mix;
using tarn::test::random_stream;

[[noreturn]] inline void fail(char const* text) {
    std::fprintf(stderr, "%s\n", text);
    std::exit(EXIT_FAILURE);  // NOLINT(concurrency-mt-unsafe): nothing registers exit handlers
}

/// The N numbers of a command line, each within [1, max]; missing ones keep what `numbers` holds.
/// Wrong arguments end the program with status 2 and `usage`.
template <std::size_t N>
void parse_arguments(int argc, char** argv, char const* usage, std::uint64_t (&numbers)[N],
                     std::uint64_t max = 1'000'000'000) {
    bool good = argc >= 1 && static_cast<std::size_t>(argc) <= N + 1;
    for (int index = 1; good && index < argc; ++index) {
        std::string_view const word{argv[index]};
        std::uint64_t& number = numbers[index - 1];
        auto const [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
        good = error == std::errc{} && end == word.data() + word.size() && number >= 1 &&
               number <= max;
    }
    if (!good) {
        std::fprintf(stderr, "usage: %s\n", usage);
        std::exit(2);  // NOLINT(concurrency-mt-unsafe): nothing registers exit handlers
    }
}

/// malloc that ends the program when there is no memory: a benchmark can't go on without.
inline void* must_allocate(std::size_t bytes) {
    void* const block = std::malloc(bytes);
    if (block == nullptr) {
        fail("out of memory");
    }
    return block;
}

/// Writes `tag` to the first and the last bytes of a block of at least one byte.
inline void mark(void* block, std::size_t bytes, std::uint64_t tag) noexcept {
    std::size_t const part = bytes < sizeof tag ? bytes : sizeof tag;
    std::memcpy(static_cast<char*>(block) + bytes - part, &tag, part);
    std::memcpy(block, &tag, part);
}

/// Whether mark() left `tag` there and nobody wrote since.
[[nodiscard]] inline bool is_marked(void const* block, std::size_t bytes,
                                    std::uint64_t tag) noexcept {
    std::size_t const part = bytes < sizeof tag ? bytes : sizeof tag;
    bool const first = std::memcmp(block, &tag, part) == 0;
    // Where both ends overlap, only the first bytes are as written.
    return first && (bytes < 2 * sizeof tag ||
                     std::memcmp(static_cast<char const*>(block) + bytes - part, &tag, part) == 0);
}

/// Ends the program when a block that mark() marked was written by somebody else.
inline void check_marked(void const* block, std::size_t bytes, std::uint64_t tag) {
    if (!is_marked(block, bytes, tag)) {
        fail("a block was overwritten");
    }
}

/// Makes the compiler believe that somebody reads and writes the block, so that it can't leave out
/// what made or filled it.
inline void escape(void* block) noexcept { asm volatile("" : : "g"(block) : "memory"); }

/// Bits of a tag that hold the size of a block of take_tagged().
inline constexpr unsigned tag_size_bits = 24;

/// A block that knows its own size, for those who pass bare pointers around: `bytes`, at least 16
/// and below 16 MiB, and the low bits of `salt` are its tag, at both of its ends. All of its memory
/// is touched, as it would be by who has a use for it.
inline void* take_tagged(std::size_t bytes, std::uint64_t salt) {
    constexpr std::size_t os_page_bytes = 4096;
    std::uint64_t const tag = salt << tag_size_bits | bytes;
    char* const block = static_cast<char*>(must_allocate(bytes));
    for (std::size_t offset = os_page_bytes; offset < bytes; offset += os_page_bytes) {
        block[offset] = 1;
    }
    std::memcpy(block, &tag, sizeof tag);
    std::memcpy(block + bytes - sizeof tag, &tag, sizeof tag);
    return block;
}

/// Checks and frees a block of take_tagged(). Returns its tag.
inline std::uint64_t give_tagged(void* block) {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::memcpy(&first, block, sizeof first);
    std::size_t const bytes = first % (std::uint64_t{1} << tag_size_bits);
    std::memcpy(&last, static_cast<char const*>(block) + bytes - sizeof last, sizeof last);
    if (first != last) {
        fail("a block was overwritten");
    }
    std::free(block);
    return first;
}

/// Brings `items` into a random order, the same for the same `random` on every machine.
template <class Items>
void shuffle(Items& items, random_stream& random) {
    for (std::size_t count = items.size(); count > 1; --count) {
        std::swap(items[count - 1], items[random.below(count)]);
    }
}

/// Calls work(0) to work(count - 1), each in a thread of its own, and waits. Returns the sum of
/// what they returned. An exception ends the program.
template <class Work>
std::uint64_t run_threads(std::size_t count, Work work) {
    std::vector<std::uint64_t> results(count);
    std::vector<std::thread> threads;
    threads.reserve(count);
    for (std::size_t index = 0; index < count; ++index) {
        threads.emplace_back([&results, &work, index] { results[index] = work(index); });
    }
    std::uint64_t sum = 0;
    for (std::size_t index = 0; index < count; ++index) {
        threads[index].join();
        sum += results[index];
    }
    return sum;
}

/// The line that a workload ends with. Returns main's exit status.
inline int finish(char const* name, std::uint64_t checksum) {
    bool const printed =
        std::printf("%s %016llx\n", name, static_cast<unsigned long long>(checksum)) > 0 &&
        std::fflush(stdout) == 0;
    return printed ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace bench
