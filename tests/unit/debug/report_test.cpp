#include "debug/report.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bits.hpp"
#include "support/build.hpp"
#include "support/known_process.hpp"
#include "support/random.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::family;
using space::stack_id;
using tarn::test::known_process;

std::byte const* at(std::uintptr_t address) { return base::pointer_to(address); }

constexpr std::uintptr_t block_address = 0x7f20'0000'1000;

block_facts block_of(std::size_t bytes, block_state state = block_state::live,
                     family by = family::malloc) {
    return {.user = at(block_address),
            .bytes = bytes,
            .state = state,
            .by = by,
            .owner = heap_number::program};
}

finding damage_of(fault what, std::ptrdiff_t first, std::ptrdiff_t last, std::size_t bytes) {
    finding found;
    found.what = what;
    found.operation = "free";
    found.block =
        block_of(24, what == fault::use_after_free ? block_state::freed : block_state::live);
    found.damage_first = first;
    found.damage_last = last;
    found.damaged_bytes = bytes;
    found.ptr = found.block.user + first;
    return found;
}

finding free_of(fault what, char const* operation, std::ptrdiff_t offset = 0,
                block_state state = block_state::live, family by = family::malloc) {
    finding found;
    found.what = what;
    found.operation = operation;
    found.block = block_of(24, state, by);
    found.ptr = found.block.user + offset;
    return found;
}

std::string text_of(finding const& found) {
    base::text_buffer<report_bytes> text;
    EXPECT_TRUE(describe_finding(found, known_process::by(), text));
    EXPECT_FALSE(text.truncated());
    return std::string{text.view()};
}

std::string json_text_of(finding const& found) {
    base::text_buffer<report_bytes> text;
    EXPECT_TRUE(describe_finding_json(found, known_process::by(), text));
    EXPECT_FALSE(text.truncated());
    return std::string{text.view()};
}

std::string first_line_of(finding const& found) {
    std::string const text = text_of(found);
    return text.substr(0, text.find('\n'));
}

/// An overflow of three bytes with all that a report can say.
finding whole_overflow(known_process& process) {
    process.threads = {{4711, "worker"}, {4712, "main"}};
    process.add(1, {{.function = "make_name(int)", .file = "/src/app/name.cpp", .line = 42},
                    {.function = "main", .file = "", .line = 0}});
    process.add(2, {{.function = "std::vector<int>::push_back(int const&)",
                     .file = "/usr/include/c++/12/bits/stl_vector.h",
                     .line = 1287},
                    {.function = "neighbour()", .file = "/src/app/next.cpp", .line = 7}});
    process.add(3, {{.function = "drop_name(char*)", .file = "/src/app/name.cpp", .line = 50},
                    {.function = "", .module = "/usr/lib/libfoo.so", .offset = 0x1234}});
    process.calls[base::address_of(process.stacks[3][0])] = {
        {.function = "release(char*)", .file = "/src/app/name.h", .line = 9},
        {.function = "drop_name(char*)", .file = "/src/app/name.cpp", .line = 50}};
    finding found = damage_of(fault::overflow, 24, 26, 3);
    found.block.allocated = stack_id{1};
    found.block.allocated_thread = 4712;
    found.thread = 4711;
    found.stack = process.stacks[3];
    found.dump.from = 0;
    found.dump.bytes = 40;
    found.dump.found.fill(std::byte{0xab});
    std::memcpy(found.dump.found.data(), "a name of 24 characters.xyz", 27);
    found.dump.expected = found.dump.found;
    std::fill_n(found.dump.expected.begin() + 24, 3, std::byte{0xab});
    found.after = block_of(32);
    found.after.user = at(block_address + 0x80);
    found.after.allocated = stack_id{2};
    found.after.by = family::new_array;
    found.before = block_of(8, block_state::freed);
    found.before.user = at(block_address - 0x60);
    return found;
}

TEST(report, of_damage_begins_with_what_where_and_how_far) {
    known_process::reset();
    EXPECT_EQ(first_line_of(damage_of(fault::overflow, 24, 26, 3)),
              "tarn: heap-buffer-overflow: wrote 3 bytes past the end of 24-byte block "
              "0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::overflow, 24, 24, 1)),
              "tarn: heap-buffer-overflow: wrote 1 byte past the end of 24-byte block "
              "0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::overflow, 64, 67, 4)),
              "tarn: heap-buffer-overflow: wrote 4 bytes, 40 bytes past the end of 24-byte block "
              "0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::overflow, 24, 33, 8)),
              "tarn: heap-buffer-overflow: wrote at least 8 bytes past the end of 24-byte block "
              "0x7f2000001000");
    finding unbounded = damage_of(fault::overflow, 24, 95, 72);
    unbounded.may_be_more = true;
    EXPECT_EQ(first_line_of(unbounded),
              "tarn: heap-buffer-overflow: wrote at least 72 bytes past the end of 24-byte block "
              "0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::underflow, -8, -5, 4)),
              "tarn: heap-buffer-underflow: wrote 4 bytes, 8 bytes before the start of 24-byte "
              "block 0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::underflow, -1, -1, 1)),
              "tarn: heap-buffer-underflow: wrote 1 byte, 1 byte before the start of 24-byte "
              "block 0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::use_after_free, 4, 11, 8)),
              "tarn: heap-use-after-free: wrote 8 bytes, 4 bytes into freed 24-byte block "
              "0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::use_after_free, -16, 30, 12)),
              "tarn: heap-use-after-free: wrote at least 12 bytes, 16 bytes before the start of "
              "freed 24-byte block 0x7f2000001000");
    EXPECT_EQ(first_line_of(damage_of(fault::use_after_free, 24, 24, 1)),
              "tarn: heap-use-after-free: wrote 1 byte past the end of freed 24-byte block "
              "0x7f2000001000");
}

TEST(report, of_a_free_begins_with_what_is_wrong_with_it) {
    known_process::reset();
    EXPECT_EQ(first_line_of(free_of(fault::double_free, "free", 0, block_state::freed)),
              "tarn: double-free: free of already freed 24-byte block 0x7f2000001000");
    EXPECT_EQ(first_line_of(free_of(fault::double_free, "realloc", 0, block_state::unused)),
              "tarn: double-free: realloc of already freed 24-byte block 0x7f2000001000");
    EXPECT_EQ(first_line_of(free_of(fault::interior_free, "free", 8)),
              "tarn: interior-free: free of a pointer 8 bytes into 24-byte block 0x7f2000001000");
    EXPECT_EQ(first_line_of(free_of(fault::interior_free, "operator delete", 24)),
              "tarn: interior-free: operator delete of a pointer 0 bytes past the end of 24-byte "
              "block 0x7f2000001000");
    EXPECT_EQ(first_line_of(free_of(fault::interior_free, "free", -16, block_state::freed)),
              "tarn: interior-free: free of a pointer 16 bytes before the start of freed 24-byte "
              "block 0x7f2000001000");
    finding foreign;
    foreign.what = fault::foreign_free;
    foreign.operation = "free";
    foreign.ptr = at(0x1234);
    EXPECT_EQ(first_line_of(foreign),
              "tarn: foreign-free: free of a pointer into no block: 0x1234");
    foreign.what = fault::lost_record;
    EXPECT_EQ(first_line_of(foreign),
              "tarn: damaged-record: free of a block whose own data are overwritten: 0x1234");
    EXPECT_EQ(first_line_of(free_of(fault::lost_record, "free")),
              "tarn: damaged-record: free of 24-byte block whose own data are overwritten: "
              "0x7f2000001000");
}

TEST(report, of_a_false_claim_names_both_sides) {
    known_process::reset();
    EXPECT_EQ(first_line_of(free_of(fault::mismatched_free, "operator delete", 0, block_state::live,
                                    family::new_array)),
              "tarn: alloc-dealloc-mismatch: 24-byte block of operator new[] freed with operator "
              "delete: 0x7f2000001000");
    EXPECT_EQ(first_line_of(free_of(fault::mismatched_free, "realloc", 0, block_state::live,
                                    family::new_one)),
              "tarn: alloc-dealloc-mismatch: 24-byte block of operator new resized with realloc: "
              "0x7f2000001000");
    finding of_mp = free_of(fault::mismatched_free, "free");
    of_mp.block.owner = heap_number::mp;
    EXPECT_EQ(first_line_of(of_mp),
              "tarn: alloc-dealloc-mismatch: 24-byte block of mp_alloc freed with free: "
              "0x7f2000001000");
    finding sized = free_of(fault::wrong_size, "operator delete");
    sized.freed_as = {.by = family::new_one, .bytes = 32};
    EXPECT_EQ(first_line_of(sized),
              "tarn: size-mismatch: 24-byte block freed as 32 bytes: 0x7f2000001000");
    finding aligned = free_of(fault::wrong_alignment, "operator delete");
    aligned.freed_as = {.by = family::new_one, .alignment = 16};
    EXPECT_EQ(first_line_of(aligned),
              "tarn: alignment-mismatch: 24-byte block of default alignment freed with alignment "
              "16: 0x7f2000001000");
    aligned.block.alignment = 64;
    aligned.freed_as.alignment = 0;
    EXPECT_EQ(first_line_of(aligned),
              "tarn: alignment-mismatch: 24-byte block of alignment 64 freed with default "
              "alignment: 0x7f2000001000");
}

TEST(report, of_an_access_says_where_it_went) {
    known_process::reset();
    finding found = free_of(fault::bad_access, "fault", 24);
    found.access = access_kind::read;
    EXPECT_EQ(first_line_of(found),
              "tarn: bad-access: read, 0 bytes past the end of 24-byte block 0x7f2000001000");
    found.access = access_kind::write;
    found.ptr = found.block.user + 4;
    found.block.state = block_state::freed;
    EXPECT_EQ(first_line_of(found),
              "tarn: bad-access: write, 4 bytes into freed 24-byte block 0x7f2000001000");
    found.access = access_kind::unknown;
    found.block = {};
    EXPECT_EQ(first_line_of(found),
              "tarn: bad-access: access outside of all blocks: 0x7f2000001004");
}

TEST(report, has_a_signature_that_is_the_first_line_without_its_address) {
    known_process& process = known_process::reset();
    for (finding const& found :
         {whole_overflow(process), free_of(fault::double_free, "free"),
          free_of(fault::wrong_size, "free"), free_of(fault::foreign_free, "free")}) {
        base::text_buffer<512> signature;
        describe_signature(found, signature);
        std::string const line = first_line_of(found);
        std::string_view rest{line};
        ASSERT_TRUE(rest.starts_with("tarn: " + std::string{signature.view()})) << line;
        rest.remove_prefix(6 + signature.view().size());
        rest.remove_prefix(rest.starts_with(':') ? 2 : 1);
        EXPECT_TRUE(rest.starts_with("0x")) << line;
        EXPECT_EQ(nlohmann::json::parse(json_text_of(found))["signature"], signature.view());
    }
}

TEST(report, of_an_overflow_as_a_whole) {
    EXPECT_EQ(
        text_of(whole_overflow(known_process::reset())),
        R"(tarn: heap-buffer-overflow: wrote 3 bytes past the end of 24-byte block 0x7f2000001000
  found by free in thread 4711 (worker) of process 4700
  block: 24 bytes at 0x7f2000001000 to 0x7f2000001018, of malloc, live
  damage: from byte 24 to byte 26 counted from the block's start, 0x7f2000001018 to 0x7f200000101a
  now in thread 4711 (worker):
    #0 release(char*) at /src/app/name.h:9 (inlined)
    #1 drop_name(char*) at /src/app/name.cpp:50
    #2 0x0000000000401060 in /usr/lib/libfoo.so+0x1234 (build id 0123abcd)
  allocated in thread 4712 (main):
    #0 make_name(int) at /src/app/name.cpp:42
    #1 main in /opt/app/bin/app+0x10 (build id 0123abcd)
  memory there, when this was found:
    0x7f2000001000  +0       61 20 6e 61 6d 65 20 6f 66 20 32 34 20 63 68 61  a name of 24 cha
    0x7f2000001010  +16      72 61 63 74 65 72 73 2e 78 79 7a ab ab ab ab ab  racters.xyz.....
      should be                                      ab ab ab
    0x7f2000001020  +32      ab ab ab ab ab ab ab ab                          ........
  block before: 8 bytes at 0x7f2000000fa0 to 0x7f2000000fa8, of malloc, freed, in quarantine
  block after: 32 bytes at 0x7f2000001080 to 0x7f20000010a0, of operator new[], live, from neighbour() at /src/app/next.cpp:7
)");
}

TEST(report, of_an_overflow_as_json) {
    EXPECT_EQ(
        json_text_of(whole_overflow(known_process::reset())),
        R"j({"tool":"tarn","kind":"heap-buffer-overflow",)j"
        R"j("signature":"heap-buffer-overflow: wrote 3 bytes past the end of 24-byte block",)j"
        R"j("address":"0x7f2000001018","process":4700,"operation":"free","access":null,)j"
        R"j("now":{"thread":{"id":4711,"name":"worker"},"stack":[)j"
        R"j({"address":"0x401050","module":"/opt/app/bin/app","offset":"0x10",)j"
        R"j("build_id":"0123abcd","function":"release(char*)","file":"/src/app/name.h","line":9,)j"
        R"j("inlined":true},)j"
        R"j({"address":"0x401050","module":"/opt/app/bin/app","offset":"0x10",)j"
        R"j("build_id":"0123abcd","function":"drop_name(char*)","file":"/src/app/name.cpp",)j"
        R"j("line":50,"inlined":false},)j"
        R"j({"address":"0x401060","module":"/usr/lib/libfoo.so","offset":"0x1234",)j"
        R"j("build_id":"0123abcd","function":null,"file":null,"line":null,"inlined":false}],)j"
        R"j("frames_left_out":0},)j"
        R"j("damage":{"first":24,"last":26,"bytes":3,"contiguous":true,"may_be_more":false,"makes_sense":true},)j"
        R"j("freed_as":null,)j"
        R"j("block":{"address":"0x7f2000001000","bytes":24,"family":"malloc","heap":"program",)j"
        R"j("alignment":0,"state":"live","makes_sense":true,)j"
        R"j("allocated":{"thread":{"id":4712,"name":"main"},"stack":[)j"
        R"j({"address":"0x401010","module":"/opt/app/bin/app","offset":"0x10",)j"
        R"j("build_id":"0123abcd","function":"make_name(int)","file":"/src/app/name.cpp",)j"
        R"j("line":42,"inlined":false},)j"
        R"j({"address":"0x401020","module":"/opt/app/bin/app","offset":"0x10",)j"
        R"j("build_id":"0123abcd","function":"main","file":null,"line":null,"inlined":false}],)j"
        R"j("frames_left_out":0},"freed":null},)j"
        R"j("memory":{"from":0,)j"
        R"j("found":"61206e616d65206f662032342063686172616374)j"
        R"j(6572732e78797aababababababababababababab",)j"
        R"j("expected":"61206e616d65206f662032342063686172616374)j"
        R"j(6572732eabababababababababababababababab"},)j"
        R"j("before":{"address":"0x7f2000000fa0","bytes":8,"family":"malloc","heap":"program",)j"
        R"j("alignment":0,"state":"freed","makes_sense":true,"site":null},)j"
        R"j("after":{"address":"0x7f2000001080","bytes":32,"family":"operator new[]",)j"
        R"j("heap":"program","alignment":0,"state":"live","makes_sense":true,)j"
        R"j("site":{"address":"0x401040","module":"/opt/app/bin/app","offset":"0x10",)j"
        R"j("build_id":"0123abcd","function":"neighbour()","file":"/src/app/next.cpp","line":7,)j"
        R"j("inlined":false}},"truncated":false})j"
        "\n");
}

TEST(report, of_a_use_after_free_has_three_stacks) {
    known_process& process = known_process::reset();
    process.threads = {{4712, "ma\x1bin"}};
    process.add(1, {{.function = "make()", .file = "/src/a.cpp", .line = 1}});
    process.add(2, {{.function = "drop()", .file = "/src/a.cpp", .line = 2}});
    process.add(3, {{.function = "later()", .file = "/src/a.cpp", .line = 3}});
    finding found = damage_of(fault::use_after_free, 4, 11, 5);
    found.operation = "check";
    found.stack = process.stacks[3];
    found.thread = 4713;
    found.block.alignment = 64;
    found.block.by = family::new_one;
    found.block.allocated = stack_id{1};
    found.block.allocated_thread = 4712;
    found.block.released = stack_id{2};
    found.block.released_thread = 4714;
    EXPECT_EQ(
        text_of(found),
        R"(tarn: heap-use-after-free: wrote at least 5 bytes, 4 bytes into freed 24-byte block 0x7f2000001000
  found by check in thread 4713 of process 4700
  block: 24 bytes at 0x7f2000001000 to 0x7f2000001018, of operator new aligned to 64, freed, in quarantine
  damage: from byte 4 to byte 11 counted from the block's start, 0x7f2000001004 to 0x7f200000100b; of these 8 5 differ
  now in thread 4713:
    #0 later() at /src/a.cpp:3
  allocated in thread 4712 (ma?in):
    #0 make() at /src/a.cpp:1
  freed in thread 4714:
    #0 drop() at /src/a.cpp:2
)");
}

TEST(report, of_a_bad_free_shows_where_and_as_what) {
    known_process::reset();
    EXPECT_EQ(
        text_of(free_of(fault::interior_free, "free", -8)),
        R"(tarn: interior-free: free of a pointer 8 bytes before the start of 24-byte block 0x7f2000001000
  found by free in an unknown thread of process 4700
  block: 24 bytes at 0x7f2000001000 to 0x7f2000001018, of malloc, live
  address: 0x7f2000000ff8, 8 bytes before the start of the block, in the guard before it
  now in an unknown thread:
    no stack was kept
  allocated in an unknown thread:
    no stack was kept
)");
    finding sized = free_of(fault::wrong_size, "operator delete");
    sized.freed_as = {.by = family::new_one, .bytes = 1, .alignment = 32};
    sized.block.owner = heap_number::mp;
    EXPECT_EQ(text_of(sized),
              R"(tarn: size-mismatch: 24-byte block freed as 1 byte: 0x7f2000001000
  found by operator delete in an unknown thread of process 4700
  block: 24 bytes at 0x7f2000001000 to 0x7f2000001018, of mp_alloc, live
  freed as: operator new, 1 byte, alignment 32
  now in an unknown thread:
    no stack was kept
  allocated in an unknown thread:
    no stack was kept
)");
    finding foreign;
    foreign.what = fault::foreign_free;
    foreign.operation = "free";
    foreign.ptr = at(0x1234);
    EXPECT_EQ(text_of(foreign), R"(tarn: foreign-free: free of a pointer into no block: 0x1234
  found by free in an unknown thread of process 4700
  address: 0x1234
  now in an unknown thread:
    no stack was kept
)");
}

TEST(report, says_what_makes_no_sense) {
    known_process::reset();
    finding found = damage_of(fault::overflow, 40, 30, 100);
    found.block.bytes = ~std::size_t{0};
    found.block.allocated = stack_id{77};
    found.block.by = static_cast<family>(9);
    found.block.state = static_cast<block_state>(9);
    found.operation = nullptr;
    found.dump.bytes = 1000;
    std::string const text = text_of(found);
    EXPECT_TRUE(
        text.starts_with("tarn: heap-buffer-overflow: wrote at least 100 bytes, 40 bytes "
                         "into 18446744073709551615-byte block 0x7f2000001000\n"
                         "  found by an unknown operation in "))
        << text;
    for (char const* const line :
         {", of an unknown allocator, in an unknown state (which makes no sense)\n",
          "; 100 differ (which makes no sense)\n",
          "    stack 77 does not exist (which makes no sense)\n",
          "    (a copy of 1000 bytes, which makes no sense)\n"}) {
        EXPECT_NE(text.find(line), std::string::npos) << line << text;
    }
    found.what = static_cast<fault>(200);
    EXPECT_EQ(first_line_of(found),
              "tarn: unknown-fault: number 200, found by an unknown operation 0x7f2000001000");
}

/// As whole_overflow(), its stacks so long that they do not fit.
finding long_overflow(known_process& process, std::size_t frames) {
    finding found = whole_overflow(process);
    std::vector<known_process::source> deep(
        frames, {.function = std::string(900, 'f'), .file = "/src/deep.cpp", .line = 3});
    found.block.allocated = process.add(11, deep);
    found.block.released = process.add(12, deep);
    process.add(13, deep);
    found.stack = process.stacks[13];
    return found;
}

TEST(report, loses_outermost_frames_first_and_says_so) {
    finding const found = long_overflow(known_process::reset(), 64);
    std::string const text = text_of(found);
    std::size_t notes = 0;
    for (std::size_t from = 0;
         (from = text.find(" more left out for lack of room)\n", from)) != std::string::npos;
         ++from) {
        ++notes;
    }
    EXPECT_EQ(notes, 3U);
    EXPECT_TRUE(text.ends_with("at /src/app/next.cpp:7\n"));

    auto const json = nlohmann::json::parse(json_text_of(found));
    for (auto const& event : {json["now"], json["block"]["allocated"], json["block"]["freed"]}) {
        EXPECT_GT(event["stack"].size(), 8U);
        EXPECT_EQ(event["stack"].size() + event["frames_left_out"].get<std::size_t>(), 64U);
    }
    EXPECT_EQ(json["after"]["site"]["line"], 7);
}

TEST(report, in_any_room_is_whole_lines_or_a_whole_object) {
    finding const found = long_overflow(known_process::reset(), 4);
    constexpr std::string_view note = "tarn: the report ends here for lack of room\n";
    constexpr std::string_view earlier = "earlier\n";
    std::vector<char> storage(report_bytes);
    bool was_whole = false;
    for (std::size_t room = 0; room < 20'000; room += room < 3000 ? 1 : 501) {
        base::text_sink text{storage.data(), earlier.size() + room};
        text << earlier;
        bool const is_whole = describe_finding(found, known_process::by(), text);
        ASSERT_TRUE(text.view().starts_with(earlier));
        bool const is_said = text.view().ends_with(note);
        EXPECT_TRUE(is_whole ? !is_said && text.view().ends_with('\n')
                             : is_said || room < note.size())
            << room;
        was_whole = is_whole;

        base::text_sink object{storage.data(), room};
        bool const is_whole_object = describe_finding_json(found, known_process::by(), object);
        if (object.view().empty()) {
            EXPECT_LT(room, 200U);
            EXPECT_FALSE(is_whole_object);
            continue;
        }
        auto const json = nlohmann::json::parse(object.view(), nullptr, false);
        ASSERT_TRUE(json.is_object()) << room << object.view();
        EXPECT_EQ(json["truncated"], !is_whole_object) << room;
        EXPECT_EQ(json["kind"], "heap-buffer-overflow");
    }
    EXPECT_TRUE(was_whole);
}

std::string random_text(tarn::test::random_stream& random, std::size_t most) {
    std::string text(random.below(most + 1), '\0');
    for (char& each : text) {
        each = static_cast<char>(random.next());
    }
    return text;
}

/// Anything, with some liking for what is near to sense.
std::uint64_t random_number(tarn::test::random_stream& random) {
    switch (random.below(4)) {
        case 0:
            return random.below(100);
        case 1:
            return 0 - random.below(100);
        case 2:
            return block_address + random.below(200) - 100;
        default:
            return random.next() >> random.below(64);
    }
}

block_facts random_block(tarn::test::random_stream& random) {
    auto const small = [&random] { return static_cast<std::uint8_t>(random.below(6)); };
    return {.user = at(random_number(random)),
            .bytes = random_number(random),
            .state = static_cast<block_state>(small()),
            .by = static_cast<family>(small()),
            .owner = static_cast<heap_number>(small()),
            .alignment = random_number(random),
            .allocated = static_cast<stack_id>(random.below(6)),
            .released = static_cast<stack_id>(random_number(random)),
            .allocated_thread = static_cast<std::uint32_t>(random.below(6)),
            .released_thread = static_cast<std::uint32_t>(random_number(random))};
}

finding random_finding(tarn::test::random_stream& random, std::string const& operation) {
    finding found;
    found.what = static_cast<fault>(random.below(14));
    found.operation = random.one_in(8) ? nullptr : operation.c_str();
    found.ptr = at(random_number(random));
    found.block = random_block(random);
    found.damage_first = static_cast<std::ptrdiff_t>(random_number(random));
    found.damage_last = static_cast<std::ptrdiff_t>(random_number(random));
    found.damaged_bytes = random_number(random);
    found.dump.from = static_cast<std::ptrdiff_t>(random_number(random));
    found.dump.bytes = random_number(random);
    for (std::byte& each : found.dump.found) {
        each = static_cast<std::byte>(random.next());
    }
    found.freed_as = {.by = static_cast<family>(random.below(6)),
                      .bytes = random_number(random),
                      .alignment = random_number(random)};
    found.access = static_cast<access_kind>(random.below(5));
    found.thread = static_cast<std::uint32_t>(random.below(6));
    found.before = random_block(random);
    found.after = random_block(random);
    return found;
}

TEST(report, of_any_facts_is_lines_and_valid_json) {
    constexpr std::uint64_t seed = 20'261;
    SCOPED_TRACE(seed);
    tarn::test::random_stream random{seed};
    for (std::uint64_t round = 0; round < tarn::test::scaled(1500); ++round) {
        known_process& process = known_process::reset();
        for (std::uint32_t number = 1; number < 5; ++number) {
            std::vector<known_process::source> sources(random.below(20));
            for (known_process::source& each : sources) {
                each = {.function = random_text(random, random.one_in(16) ? 9000 : 40),
                        .file = random_text(random, 40),
                        .line = static_cast<unsigned>(random.next()),
                        .module = random_text(random, 40),
                        .offset = random.next(),
                        .build_id = "00ff"};
            }
            process.add(number, sources);
            process.threads[number] = random_text(random, 100);
        }
        std::string operation = random_text(random, 40);
        finding found = random_finding(random, operation);
        found.stack = process.stacks[static_cast<std::uint32_t>(random.below(6))];

        base::text_buffer<report_bytes> buffer;
        ASSERT_TRUE(describe_finding(found, known_process::by(), buffer)) << round;
        EXPECT_TRUE(std::all_of(buffer.view().begin(), buffer.view().end(), [](char each) {
            auto const code = static_cast<unsigned char>(each);
            return each == '\n' || (code >= ' ' && code != 0x7f);
        })) << round;
        buffer.clear();
        ASSERT_TRUE(describe_finding_json(found, known_process::by(), buffer)) << round;
        EXPECT_EQ(std::count(buffer.view().begin(), buffer.view().end(), '\n'), 1) << round;
        auto const json = nlohmann::json::parse(buffer.view(), nullptr, false);
        ASSERT_TRUE(json.is_object()) << round << ": " << buffer.view();
        EXPECT_EQ(json.size(), 15U) << round;
    }
}

}  // namespace
