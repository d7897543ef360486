#include "debug/leaks.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "debug/report.hpp"
#include "support/build.hpp"
#include "support/known_process.hpp"
#include "support/random.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::debug;
using heap::family;
using space::stack_id;
using tarn::test::known_process;

std::vector<std::string>& writes() {
    static std::vector<std::string> all;
    return all;
}

void keep(std::string_view text) noexcept { writes().emplace_back(text); }

struct outcome {
    leak_totals totals;
    std::vector<std::string> writes;

    [[nodiscard]] std::string text() const {
        std::string all;
        for (std::string const& each : writes) {
            all += each;
        }
        return all;
    }
};

outcome reported(std::vector<leak_group> groups, std::string_view rules_text = {},
                 leak_report how = {}, leak_group const& uncounted = {}) {
    suppressions rules;
    base::text_buffer<1024> errors;
    EXPECT_EQ(rules.read(rules_text, "rules", errors), 0U) << errors.view();
    writes().clear();
    how.write = keep;
    static std::vector<char> storage(report_bytes);
    base::text_sink buffer{storage.data(), storage.size()};
    outcome made;
    made.totals = report_leaks(groups, uncounted, rules, known_process::by(), how, buffer);
    made.writes = writes();
    return made;
}

leak_group group_of(stack_id stack, std::uint64_t blocks, std::uint64_t bytes) {
    return {.allocated = stack,
            .owner = heap_number::program,
            .blocks = blocks,
            .bytes = bytes,
            .smallest_bytes = bytes / blocks,
            .largest_bytes = bytes / blocks};
}

/// Three groups, from two functions and from nowhere.
std::vector<leak_group> usual(known_process& process) {
    stack_id const first =
        process.add(1, {{.function = "make_name(int)", .file = "/src/app/name.cpp", .line = 42},
                        {.function = "main"}});
    stack_id const second =
        process.add(2, {{.function = "lib_open", .module = "/usr/lib/libfoo.so"}});
    std::vector<leak_group> groups{group_of(first, 3, 72), group_of(second, 1, 24),
                                   group_of(stack_id{99}, 2, 2)};
    groups[0].smallest_bytes = 16;
    groups[0].largest_bytes = 32;
    groups[1].by = family::new_array;
    groups[1].reach = reachability::lost;
    groups[2].owner = heap_number::mp;
    return groups;
}

TEST(leaks, nothing_is_written_of_nothing) {
    known_process::reset();
    outcome const was = reported({}, "leak:any");
    EXPECT_TRUE(was.writes.empty());
    EXPECT_EQ(was.totals.blocks, 0U);
}

TEST(leaks, as_text) {
    outcome const was = reported(usual(known_process::reset()));
    EXPECT_EQ(was.writes.size(), 4U);
    EXPECT_EQ(was.text(), R"(tarn: memory-leak: 3 blocks of 72 bytes in all, never freed
  allocated by malloc, 16 to 32 bytes each, at:
    #0 make_name(int) at /src/app/name.cpp:42
    #1 main in /opt/app/bin/app+0x10 (build id 0123abcd)
tarn: memory-leak: 1 block of 24 bytes in all, lost
  allocated by operator new[], 24 bytes each, at:
    #0 lib_open in /usr/lib/libfoo.so+0x10 (build id 0123abcd)
tarn: memory-leak: 2 blocks of 2 bytes in all, never freed
  allocated by mp_alloc, 1 byte each, at:
    no stack was kept
tarn: leaks: 6 blocks of 98 bytes in all from 3 places
)");
    EXPECT_EQ(was.totals.groups, 3U);
    EXPECT_EQ(was.totals.blocks, 6U);
    EXPECT_EQ(was.totals.bytes, 98U);
    // Without rules stacks are looked up once.
    EXPECT_EQ(known_process::now().described, 3U);
}

TEST(leaks, suppressed_ones_are_counted_and_what_was_left_out_is_said) {
    leak_group uncounted;
    uncounted.add(7);
    outcome const was =
        reported(usual(known_process::reset()),
                 "leak:unused\nleak:name.cpp\n{\nx\nMemcheck:Leak\nobj:*foo*\n}\n", {}, uncounted);
    EXPECT_EQ(was.text(), R"(tarn: memory-leak: 2 blocks of 2 bytes in all, never freed
  allocated by mp_alloc, 1 byte each, at:
    no stack was kept
tarn: leaks: 3 blocks of 9 bytes in all from 1 place; 4 blocks of 96 bytes suppressed
  of unknown places, since there was no memory to group them: 1 block of 7 bytes
  suppressed by name.cpp (line 2): 3 blocks of 72 bytes
  suppressed by x (line 3): 1 block of 24 bytes
)");
    EXPECT_EQ(was.totals.suppressed_blocks, 4U);
    EXPECT_EQ(was.totals.suppressed_bytes, 96U);

    outcome const all = reported(usual(known_process::reset()), "", {.groups_max = 1});
    EXPECT_TRUE(
        all.text().ends_with("tarn: leaks: 6 blocks of 98 bytes in all from 3 places\n"
                             "  not shown: 3 blocks of 26 bytes from 2 of these places\n"))
        << all.text();
}

TEST(leaks, as_json_lines) {
    outcome const was =
        reported(usual(known_process::reset()), "leak:libfoo", {.style = report_style::json});
    ASSERT_EQ(was.writes.size(), 3U);
    EXPECT_EQ(
        was.writes[0],
        R"j({"tool":"tarn","kind":"memory-leak","process":4700,)j"
        R"j("signature":"memory-leak: 3 blocks of 72 bytes in all, never freed","blocks":3,)j"
        R"j("bytes":72,"smallest":16,"largest":32,"family":"malloc","heap":"program",)j"
        R"j("reachable":"unknown","stack":[)j"
        R"j({"address":"0x401010","module":"/opt/app/bin/app","offset":"0x10",)j"
        R"j("build_id":"0123abcd","function":"make_name(int)","file":"/src/app/name.cpp",)j"
        R"j("line":42,"inlined":false},)j"
        R"j({"address":"0x401020","module":"/opt/app/bin/app","offset":"0x10",)j"
        R"j("build_id":"0123abcd","function":"main","file":null,"line":null,"inlined":false}],)j"
        R"j("frames_left_out":0})j"
        "\n");
    EXPECT_EQ(was.writes[2],
              R"j({"tool":"tarn","kind":"leak-summary","process":4700,"blocks":5,"bytes":74,)j"
              R"j("places":2,"suppressed_blocks":1,"suppressed_bytes":24,"places_not_shown":0,)j"
              R"j("blocks_not_shown":0,"bytes_not_shown":0,"ungrouped_blocks":0,)j"
              R"j("ungrouped_bytes":0,"suppressions":[)j"
              R"j({"rule":"libfoo","line":1,"blocks":1,"bytes":24}],"suppressions_left_out":0})j"
              "\n");
}

TEST(leaks, many_groups_are_matched_each_with_its_own_stack) {
    constexpr std::uint64_t seed = 5;
    SCOPED_TRACE(seed);
    tarn::test::random_stream random{seed};
    known_process& process = known_process::reset();
    std::vector<leak_group> groups;
    std::uint64_t bytes_kept = 0;
    for (std::uint32_t number = 1; number <= 1500; ++number) {
        std::vector<known_process::source> stack(random.below(30), {.function = "other"});
        bool const is_ours = random.one_in(3) && !stack.empty();
        if (is_ours) {
            stack[random.below(stack.size())].function = "ours";
        }
        groups.push_back(group_of(process.add(number, stack), 1, number));
        bytes_kept += is_ours ? 0 : number;
    }
    outcome const was = reported(groups, "leak:^ours$");
    EXPECT_EQ(was.totals.bytes, bytes_kept);
    EXPECT_EQ(was.text().find("ours()"), std::string::npos);
}

TEST(leaks, many_rules_come_in_several_writes_or_are_left_out_of_json) {
    constexpr std::uint32_t rule_count = 800;
    std::string rules;
    for (std::uint32_t i = 0; i < rule_count; ++i) {
        rules += "leak:^a_function_with_a_rather_long_name_" + std::to_string(i) + "$\n";
    }
    for (report_style const style : {report_style::text, report_style::json}) {
        known_process& process = known_process::reset();
        std::vector<leak_group> groups;
        for (std::uint32_t i = 0; i < rule_count; ++i) {
            groups.push_back(
                group_of(process.add(i + 1, {{.function = "a_function_with_a_rather_long_name_" +
                                                          std::to_string(i)}}),
                         1, 1));
        }
        outcome const was = reported(groups, rules, {.style = style});
        EXPECT_EQ(was.totals.suppressed_blocks, rule_count);
        std::string const text = was.text();
        if (style == report_style::text) {
            EXPECT_GT(was.writes.size(), 1U);
            EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), rule_count + 1);
        } else {
            ASSERT_EQ(was.writes.size(), 1U);
            auto const json = nlohmann::json::parse(text);
            EXPECT_GT(json["suppressions"].size(), 100U);
            EXPECT_EQ(
                json["suppressions"].size() + json["suppressions_left_out"].get<std::size_t>(),
                rule_count);
        }
    }
}

TEST(leaks, any_names_are_lines_and_valid_json) {
    constexpr std::uint64_t seed = 17;
    SCOPED_TRACE(seed);
    tarn::test::random_stream random{seed};
    for (std::uint64_t round = 0; round < tarn::test::scaled(300); ++round) {
        known_process& process = known_process::reset();
        std::vector<known_process::source> stack(random.below(60));
        for (known_process::source& each : stack) {
            each.function.resize(random.below(3000));
            each.file.resize(random.below(50));
            for (char& character : each.function) {
                character = static_cast<char>(random.next());
            }
            for (char& character : each.file) {
                character = static_cast<char>(random.next());
            }
        }
        leak_group group = group_of(process.add(1, stack), 1 + random.below(5), random.next());
        group.by = static_cast<family>(random.below(5));
        group.owner = static_cast<heap_number>(random.below(5));
        group.reach = static_cast<reachability>(random.below(7));
        outcome const text = reported({group}, "leak:never to be found");
        EXPECT_TRUE(text.text().starts_with("tarn: memory-leak: "));
        for (std::string const& line :
             reported({group}, "", {.style = report_style::json}).writes) {
            ASSERT_TRUE(nlohmann::json::parse(line, nullptr, false).is_object()) << round;
        }
    }
}

}  // namespace
