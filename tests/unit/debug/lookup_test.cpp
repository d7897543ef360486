#include "debug/lookup.hpp"

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "base/bits.hpp"
#include "platform/os.hpp"
#include "debug/block_record.hpp"
#include "debug/report.hpp"
#include "support/build.hpp"

namespace {

using namespace tarn::impl;
using debug::process_lookup;
using platform::os;

TEST(lookup, names_threads_that_live) {
    std::array<char, 64> room;
    std::uint32_t id = 0;
    std::string name;
    std::thread{[&] {
        pthread_setname_np(pthread_self(), "a worker");
        id = os::thread_id();
        name = process_lookup().thread_name(id, room);
    }}.join();
    EXPECT_EQ(name, "a worker");
    EXPECT_EQ(process_lookup().thread_name(0, room), "");
    EXPECT_EQ(process_lookup().thread_name(~std::uint32_t{0}, room), "");
    std::array<char, 3> little;
    EXPECT_FALSE(process_lookup().thread_name(os::thread_id(), little).empty());
}

__attribute__((noinline)) void const* where_it_returns_to() {
    asm volatile("" ::: "memory");
    return __builtin_return_address(0);
}

TEST(lookup, knows_the_program_in_a_report) {
    void const* const here = where_it_returns_to();
    debug::finding found;
    found.what = debug::fault::foreign_free;
    found.operation = "free";
    found.stack = {&here, 1};
    found.thread = os::thread_id();
    base::text_buffer<debug::report_bytes> text;
    EXPECT_TRUE(debug::describe_finding(found, process_lookup(), text));
    // An emulator may be too slow for the file, of which there is then the place alone.
    EXPECT_NE(text.view().find(tarn::test::under_emulation ? "    #0 " : "lookup_test.cpp:"),
              std::string_view::npos)
        << text.view();
}

TEST(lookup, finds_the_stacks_of_blocks) {
    std::array<void const*, 3> const frames{base::pointer_to(0x1111), base::pointer_to(0x2222),
                                            base::pointer_to(0x3333)};
    space::stack_id const id = debug::stacks.intern(frames);
    ASSERT_NE(id, space::stack_id::none);
    auto const found = process_lookup().frames(id);
    EXPECT_TRUE(std::equal(found.begin(), found.end(), frames.begin(), frames.end()));
    EXPECT_TRUE(process_lookup().frames(space::stack_id::none).empty());
    EXPECT_TRUE(process_lookup().frames(space::stack_id{~std::uint32_t{0}}).empty());
    EXPECT_EQ(process_lookup().process_id(), static_cast<std::uint32_t>(::getpid()));
}

}  // namespace
