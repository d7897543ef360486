#include "debug/suppressions.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/build.hpp"
#include "support/known_process.hpp"
#include "support/random.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::family;
using tarn::test::known_process;

struct outcome {
    std::size_t rules = 0;
    std::string errors;
};

outcome read(suppressions& to, std::string_view text) {
    base::text_buffer<4096> errors;
    std::size_t const count = to.read(text, "a.supp", errors);
    std::string const said{errors.view()};
    EXPECT_EQ(count, static_cast<std::size_t>(std::count(said.begin(), said.end(), '\n')));
    return {.rules = to.rules().size(), .errors = said};
}

using frames = std::vector<known_process::source>;

/// The stack that all tests match against.
frames usual() {
    return {{.function = "keep(char const*)", .file = "/src/app/keep.cpp", .line = 12},
            {.function = "lib_open", .module = "/usr/lib/libfoo.so.1"},
            {.function = "(anonymous namespace)::run<int>(int) const",
             .file = "/src/app/run.cpp",
             .line = 99},
            {.module = "/lib/libc.so.6"}};
}

/// The line of the rule that holds; 0: none.
std::uint32_t judged(suppressions& rules, frames const& stack,
                     leak_group const& of = {.blocks = 1}) {
    known_process& process = known_process::reset();
    space::stack_id const id = process.add(1, stack);
    rules.begin(of);
    auto visit = [&rules](platform::source_frame const& frame) noexcept { rules.match(frame); };
    known_process::by().describe(known_process::by().frames(id), platform::frame_visitor{visit});
    suppression const* const found = rules.finish(of);
    return found == nullptr ? 0 : found->line;
}

bool holds(std::string const& text, leak_group const& of = {.blocks = 1}) {
    suppressions rules;
    outcome const was = read(rules, text);
    EXPECT_EQ(was.errors, "") << text;
    EXPECT_EQ(was.rules, 1U) << text;
    return judged(rules, usual(), of) != 0;
}

std::string block(std::string const& lines) {
    return "{\n  name\n  Memcheck:Leak\n" + lines + "\n}\n";
}

TEST(suppressions, patterns_match_parts_and_are_anchored) {
    EXPECT_TRUE(matches_part("", ""));
    EXPECT_TRUE(matches_part("b", "abc"));
    EXPECT_TRUE(matches_part("^a", "abc"));
    EXPECT_FALSE(matches_part("^b", "abc"));
    EXPECT_TRUE(matches_part("c$", "abc"));
    EXPECT_FALSE(matches_part("b$", "abc"));
    EXPECT_TRUE(matches_part("^a*c$", "abc"));
    EXPECT_FALSE(matches_part("^a*c$", "abcd"));
    EXPECT_TRUE(matches_part("a*d", "xaybdz"));
    EXPECT_FALSE(matches_part("a*d*a", "xaybdz"));
    EXPECT_FALSE(matches_part("?", "abc"));
    EXPECT_TRUE(matches_part("bc$", "bcbc"));
    EXPECT_FALSE(matches_part("^$", "abc"));
}

TEST(suppressions, patterns_of_blocks_match_the_whole) {
    EXPECT_TRUE(matches_whole("*", ""));
    EXPECT_TRUE(matches_whole("abc", "abc"));
    EXPECT_FALSE(matches_whole("ab", "abc"));
    EXPECT_FALSE(matches_whole("bc", "abc"));
    EXPECT_TRUE(matches_whole("a?c", "abc"));
    EXPECT_FALSE(matches_whole("a?", "a"));
    EXPECT_TRUE(matches_whole("*b*b", "abcbb"));
    EXPECT_FALSE(matches_whole("*b*b", "abcbc"));
    EXPECT_TRUE(matches_whole("***", "x"));
}

/// The definition, by recursion.
bool matches_plainly(std::string_view pattern, std::string_view text) {
    if (pattern.empty()) {
        return text.empty();
    }
    if (pattern[0] == '*') {
        return matches_plainly(pattern.substr(1), text) ||
               (!text.empty() && matches_plainly(pattern, text.substr(1)));
    }
    return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
           matches_plainly(pattern.substr(1), text.substr(1));
}

TEST(suppressions, patterns_match_as_defined) {
    constexpr std::uint64_t seed = 3;
    SCOPED_TRACE(seed);
    tarn::test::random_stream random{seed};
    auto const text_of = [&random](std::string_view letters, std::size_t most) {
        std::string text(random.below(most + 1), '\0');
        for (char& each : text) {
            each = letters[random.below(letters.size())];
        }
        return text;
    };
    for (std::uint64_t round = 0; round < tarn::test::scaled(50'000); ++round) {
        std::string const text = text_of("ab", 8);
        std::string const pattern = text_of("ab*?", 6);
        ASSERT_EQ(matches_whole(pattern, text), matches_plainly(pattern, text))
            << pattern << ' ' << text;
        std::string const part = text_of("ab*", 6);
        ASSERT_EQ(matches_part(part, text), matches_plainly('*' + part + '*', text)) << part;
        ASSERT_EQ(matches_part('^' + part, text), matches_plainly(part + '*', text)) << part;
        ASSERT_EQ(matches_part(part + '$', text), matches_plainly('*' + part, text)) << part;
    }
}

TEST(suppressions, a_line_is_of_any_frames_function_file_or_module) {
    EXPECT_TRUE(holds("leak:keep"));
    EXPECT_TRUE(holds("leak:libfoo"));
    EXPECT_TRUE(holds("  leak:^/src/app/run.cpp$  \n"));
    EXPECT_TRUE(holds("# comment\n\nleak:run<*>\r\n"));
    EXPECT_TRUE(holds("leak:^keep$"));
    EXPECT_TRUE(holds("leak:^keep(char const*)$"));
    EXPECT_FALSE(holds("leak:^app"));
    EXPECT_FALSE(holds("leak:other"));
}

TEST(suppressions, a_block_is_of_frames_from_the_innermost_on) {
    EXPECT_TRUE(holds(block("fun:keep")));
    EXPECT_TRUE(holds(block("fun:keep(char const*)\n\n# comment\n obj:*/libfoo.so*")));
    EXPECT_TRUE(holds(block("fun:k??p\nfun:lib_*\nsrc:run.cpp\nobj:/lib/libc.so.6")));
    EXPECT_FALSE(holds(block("fun:keep\nfun:lib_open\nsrc:run.cpp\nobj:*\nobj:*")));
    EXPECT_FALSE(holds(block("fun:lib_open")));
    EXPECT_FALSE(holds(block("fun:kee")));
    EXPECT_TRUE(holds(block("fun:keep\nfun:lib_open\nfun:(anonymous namespace)::run<int>")));
}

TEST(suppressions, sources_of_a_block_may_have_folder_and_line) {
    for (char const* const good : {"src:keep.cpp", "src:/src/app/keep.cpp", "src:keep.cpp:12",
                                   "src:*/keep.cpp:1*", "src:keep.*"}) {
        EXPECT_TRUE(holds(block(good))) << good;
    }
    for (char const* const bad : {"src:app/keep.cpp", "src:keep.cpp:13", "src:keep", "src:12"}) {
        EXPECT_FALSE(holds(block(bad))) << bad;
    }
}

TEST(suppressions, dots_are_any_frames_or_none) {
    EXPECT_TRUE(holds(block("...\nfun:keep")));
    EXPECT_TRUE(holds(block("...\nobj:*libc.so*")));
    EXPECT_TRUE(holds(block("fun:keep\n...\nsrc:run.cpp")));
    EXPECT_TRUE(holds(block("fun:keep\n...\n...\nfun:lib_open\n...\nobj:*libc*\n...")));
    EXPECT_FALSE(holds(block("...\nsrc:run.cpp\n...\nfun:lib_open")));
    EXPECT_FALSE(holds(block("...\nfun:keep\nsrc:run.cpp")));
}

TEST(suppressions, the_allocation_function_may_come_first) {
    leak_group const of_malloc{.blocks = 1};
    leak_group const of_array{.by = family::new_array, .blocks = 1};
    leak_group const of_mp{.owner = heap_number::mp, .blocks = 1};
    EXPECT_TRUE(holds(block("fun:malloc\nfun:keep"), of_malloc));
    EXPECT_TRUE(holds(block("fun:*alloc\nfun:keep"), of_malloc));
    EXPECT_TRUE(holds(block("fun:malloc"), of_malloc));
    EXPECT_TRUE(holds(block("obj:*vgpreload_memcheck*\nfun:keep"), of_malloc));
    EXPECT_FALSE(holds(block("fun:malloc\nfun:keep"), of_array));
    EXPECT_TRUE(holds(block("fun:_Znam\nfun:keep"), of_array));
    EXPECT_TRUE(holds(block("fun:_Zna*\n...\nsrc:run.cpp"), of_array));
    EXPECT_TRUE(holds(block("fun:operator new[]*\nfun:keep"), of_array));
    EXPECT_FALSE(holds(block("fun:_Znwm\nfun:keep"), of_array));
    EXPECT_TRUE(holds(block("fun:mp_alloc\nfun:keep"), of_mp));
    EXPECT_FALSE(holds(block("fun:malloc\nfun:malloc\nfun:keep"), of_malloc));
}

TEST(suppressions, kinds_of_a_block_count_once_they_are_known) {
    leak_group const unknown{.blocks = 1};
    leak_group const lost{.reach = reachability::lost, .blocks = 1};
    leak_group const reachable{.reach = reachability::reachable, .blocks = 1};
    std::string const definite = block("match-leak-kinds: definite, possible\nfun:keep");
    EXPECT_TRUE(holds(definite, unknown));
    EXPECT_TRUE(holds(definite, lost));
    EXPECT_FALSE(holds(definite, reachable));
    EXPECT_TRUE(holds(block("match-leak-kinds:all\nfun:keep"), reachable));
    EXPECT_TRUE(holds(block("fun:keep"), reachable));
}

TEST(suppressions, of_other_tools_and_kinds_are_passed_over) {
    suppressions rules;
    outcome const was = read(rules, R"({
   a race
   Helgrind:Race
   fun:keep
}
{
   a system call
   Memcheck:Param
   write(buf)
   fun:_ZN3foo3barEv
}
{
   of two tools
   drd,Memcheck:Leak
   fun:keep
}
)");
    EXPECT_EQ(was.errors, "");
    ASSERT_EQ(was.rules, 1U);
    EXPECT_EQ(rules.rules()[0].name, "of two tools");
    EXPECT_EQ(judged(rules, usual()), 12U);
}

TEST(suppressions, errors_name_their_line_and_the_rest_holds) {
    suppressions rules;
    outcome const was = read(rules, R"(race:foo
leak:
leak:good one
{
   mangled
   Memcheck:Leak
   fun:_ZN3foo3barEv
   fun:bar
}
{
   no frame
   Memcheck:Leak
   ...
}
{
   a word
   Memcheck:Leak
   what is this
}
{
   a kind
   Memcheck:Leak
   match-leak-kinds: definite,strange
   fun:f
}
{
   short
}
{
   no colon
   Memcheck
   fun:f
}
leak:good two
{
   no end
   Memcheck:Leak
   fun:f
)");
    EXPECT_EQ(was.errors, R"(tarn: a.supp:1: neither leak: nor a block in braces: race:foo
tarn: a.supp:2: leak: without a pattern
tarn: a.supp:7: C++ functions are matched as they are read, not mangled: fun:_ZN3foo3barEv
tarn: a.supp:14: a block without a frame that matters
tarn: a.supp:18: neither fun:, obj:, src: nor ...: what is this
tarn: a.supp:23: unknown kinds of leaks: match-leak-kinds: definite,strange
tarn: a.supp:28: a block ends before its kind
tarn: a.supp:31: not a kind like Memcheck:Leak: Memcheck
tarn: a.supp:35: a block without end
)");
    ASSERT_EQ(was.rules, 2U);
    EXPECT_EQ(rules.rules()[0].name, "good one");
    EXPECT_EQ(rules.rules()[0].line, 3U);
    EXPECT_EQ(rules.rules()[1].name, "good two");
}

TEST(suppressions, errors_beyond_their_room_count) {
    suppressions rules;
    base::text_buffer<70> errors;
    EXPECT_EQ(rules.read("x\ny\nz\n", "s", errors), 3U);
    EXPECT_EQ(errors.view(), "tarn: s:1: neither leak: nor a block in braces: x\n");
}

TEST(suppressions, too_many_frames_are_an_error_and_as_many_as_allowed_are_not) {
    std::string most;
    for (int i = 0; i < 48; ++i) {
        most += "fun:f\n";
    }
    std::string const most_allowed = block(most);
    suppressions rules;
    EXPECT_EQ(read(rules, most_allowed).errors, "");
    EXPECT_EQ(judged(rules, frames(47, {.function = "f"})), 0U);
    EXPECT_EQ(judged(rules, frames(48, {.function = "f"})), 1U);
    EXPECT_EQ(read(rules, block(most + "fun:f")).errors,
              "tarn: a.supp:52: too many frames: fun:f\n");
}

TEST(suppressions, the_first_rule_that_holds_counts) {
    suppressions rules;
    std::string const text = "leak:nobody\nleak:libfoo\nleak:keep\n";
    EXPECT_EQ(read(rules, text).rules, 3U);
    EXPECT_EQ(judged(rules, usual(), {.blocks = 3, .bytes = 70}), 2U);
    EXPECT_EQ(judged(rules, {{.function = "keep"}}, {.blocks = 1, .bytes = 5}), 3U);
    EXPECT_EQ(judged(rules, usual(), {.blocks = 4, .bytes = 7}), 2U);
    EXPECT_EQ(judged(rules, {{.function = "else"}}, {.blocks = 4, .bytes = 7}), 0U);
    EXPECT_EQ(judged(rules, {}, {.blocks = 4, .bytes = 7}), 0U);
    EXPECT_EQ(rules.rules()[0].blocks, 0U);
    EXPECT_EQ(rules.rules()[1].blocks, 7U);
    EXPECT_EQ(rules.rules()[1].bytes, 77U);
    EXPECT_EQ(rules.rules()[2].blocks, 1U);
}

TEST(suppressions, of_any_number) {
    std::string text;
    for (int i = 0; i < 1000; ++i) {
        text += "leak:name" + std::to_string(i) + "$\n";
    }
    suppressions rules;
    EXPECT_EQ(read(rules, text).rules, 1000U);
    EXPECT_EQ(judged(rules, {{.function = "name999"}}), 1000U);
}

TEST(suppressions, any_text_is_rules_and_errors) {
    constexpr std::uint64_t seed = 99;
    SCOPED_TRACE(seed);
    tarn::test::random_stream random{seed};
    std::vector<std::string> const pieces{"{",
                                          "}",
                                          "\n",
                                          "Memcheck:Leak\n",
                                          "...",
                                          "fun:",
                                          "obj:*\n",
                                          "leak:",
                                          "*",
                                          "^$",
                                          " \t",
                                          "#",
                                          "match-leak-kinds:",
                                          "possible,",
                                          "src:a:1",
                                          ":",
                                          "keep",
                                          std::string(1, '\0')};
    for (std::uint64_t round = 0; round < tarn::test::scaled(5000); ++round) {
        std::string text;
        for (std::uint64_t i = random.below(40); i != 0; --i) {
            text += pieces[random.below(pieces.size())];
            if (random.one_in(3)) {
                text += '\n';
            }
        }
        suppressions rules;
        static_cast<void>(read(rules, text));
        static_cast<void>(judged(rules, usual()));
    }
}

}  // namespace
