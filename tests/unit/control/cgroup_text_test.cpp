#include "control/cgroup_text.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <string>
#include <string_view>

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;
using std::string_view;

TEST(cgroup_text, lines_of_proc_self_cgroup) {
    auto const is = [](string_view line, string_view controller, cgroup_version version,
                       string_view path) {
        cgroup_line const parsed = parse_cgroup_line(line, controller);
        EXPECT_EQ(parsed.version, version) << line;
        EXPECT_EQ(parsed.path, path) << line;
    };
    is("4:memory:/jobs/7", "memory", cgroup_version::v1, "/jobs/7");
    is("4:cpu,cpuacct:/", "cpu", cgroup_version::v1, "/");
    is("4:cpu,cpuacct:/", "cpuacct", cgroup_version::v1, "/");
    is("0::/user.slice/a:b", "memory", cgroup_version::v2, "/user.slice/a:b");
    is("0::/../..", "memory", cgroup_version::v2, "/../..");
    is("4:cpuset:/", "cpu", cgroup_version::none, "");
    is("1:name=systemd:/", "memory", cgroup_version::none, "");
    for (char const* const garbage : {"", ":", "::", ":::", "0::", "0::x", "memory", "4:memory",
                                      "4:memory:", "4:memory:x", "7::/x", "\xff\xff:\n"}) {
        is(garbage, "memory", cgroup_version::none, "");
    }
}

TEST(cgroup_text, lines_of_mountinfo) {
    auto const is = [](string_view line, cgroup_version version, string_view root,
                       string_view point) {
        mount_line const parsed = parse_mount_line(line, "memory");
        EXPECT_EQ(parsed.version, version) << line;
        if (version != cgroup_version::none) {
            EXPECT_EQ(parsed.root, root) << line;
            EXPECT_EQ(parsed.point, point) << line;
        }
    };
    is("35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
       cgroup_version::v1, "/", "/sys/fs/cgroup/memory");
    is("35 31 0:32 /docker/a /m rw shared:9 master:1 - cgroup c rw,cpu,memory", cgroup_version::v1,
       "/docker/a", "/m");
    is("41 31 0:38 /../.. /a\\040b rw - cgroup2 cgroup2 rw,nsdelegate", cgroup_version::v2,
       "/../..", "/a\\040b");
    is("35 31 0:32 / /c rw - cgroup cgroup rw,memory_recursiveprot", cgroup_version::none, "", "");
    is("35 31 0:32 / /c rw - cgroup cgroup rw,cpu", cgroup_version::none, "", "");
    is("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,memory", cgroup_version::none, "", "");
    for (char const* const garbage :
         {"", " ", "   ", "- cgroup c rw,memory", "1 2 3 4 5 6 - cgroup2 c rw",
          "1 2 3 / /m rw cgroup2 c rw", "1 2 3 / /m rw -", "1 2 3 / /m rw - cgroup",
          "1 2 3 / /m rw - cgroup c", "\xff \xff \xff \xff \xff \xff - \xff"}) {
        is(garbage, cgroup_version::none, "", "");
    }
}

TEST(cgroup_text, escapes_of_mountinfo) {
    auto const unescaped = [](string_view text) {
        base::text_buffer<64> to;
        append_unescaped(text, to);
        return std::string{to.view()};
    };
    EXPECT_EQ(unescaped("/a\\040b\\134c"), "/a b\\c");
    EXPECT_EQ(unescaped("/a\\04"), "/a\\04");
    EXPECT_EQ(unescaped("\\999"), "\\999");
    EXPECT_EQ(unescaped("\\"), "\\");
    EXPECT_EQ(unescaped(""), "");
}

TEST(cgroup_text, paths_below_a_mount) {
    EXPECT_EQ(path_below("/", "/"), "");
    EXPECT_EQ(path_below("/", "/a/b"), "/a/b");
    EXPECT_EQ(path_below("/a", "/a"), "");
    EXPECT_EQ(path_below("/a", "/a/b"), "/b");
    EXPECT_EQ(path_below("/..", "/../b"), "/b");
    EXPECT_EQ(path_below("/../x", "/../x/y"), "/y");
    // An ancestor is mounted, under names that the namespace hides.
    EXPECT_EQ(path_below("/..", "/"), "");
    EXPECT_EQ(path_below("/../..", "/a"), "");
    EXPECT_EQ(path_below("/../..", "/../a"), "");
    // Not below.
    EXPECT_EQ(path_below("/a", "/ab"), std::nullopt);
    EXPECT_EQ(path_below("/a", "/"), std::nullopt);
    EXPECT_EQ(path_below("/", "/../a"), std::nullopt);
    EXPECT_EQ(path_below("/../x", "/a"), std::nullopt);
    EXPECT_EQ(path_below("/..x", "/a"), std::nullopt);
}

TEST(cgroup_text, numbers_and_limits) {
    EXPECT_EQ(parse_number("123"), 123U);
    EXPECT_EQ(parse_number("123\n"), 123U);
    EXPECT_EQ(parse_number("18446744073709551615"), ~std::uint64_t{0});
    for (char const* const garbage : {"", "\n", "-1", " 1", "1 ", "12x", "18446744073709551616"}) {
        EXPECT_EQ(parse_number(garbage), std::nullopt) << garbage;
        EXPECT_EQ(parse_limit(garbage), no_limit) << garbage;
    }
    EXPECT_EQ(parse_limit("268435456"), 268'435'456U);
    EXPECT_EQ(parse_limit("0"), 0U);
    EXPECT_EQ(parse_limit("max"), no_limit);
    EXPECT_EQ(parse_limit("9223372036854771712"), no_limit);  // pages of 4 KiB
    EXPECT_EQ(parse_limit("9223372036854710272"), no_limit);  // of 64 KiB
    EXPECT_EQ(parse_number_of("oom", "oom 3"), 3U);
    EXPECT_EQ(parse_number_of("oom", "oom_kill 3"), std::nullopt);
    EXPECT_EQ(parse_number_of("oom", "oom"), std::nullopt);
}

TEST(cgroup_text, cpu_quotas) {
    EXPECT_EQ(parse_cpu_max("max 100000"), no_quota);
    EXPECT_EQ(parse_cpu_max("50000 100000"), 500U);
    EXPECT_EQ(parse_cpu_max("250000 100000\n"), 2500U);
    EXPECT_EQ(parse_cpu_max("1 1000000"), 1U);
    EXPECT_EQ(parse_cpu_max("18446744073709551615 1"), no_quota);
    for (char const* const garbage : {"", "50000", "50000 ", "50000 0", "-1 100000", "a b"}) {
        EXPECT_EQ(parse_cpu_max(garbage), no_quota) << garbage;
    }
}

TEST(cgroup_text, stalls) {
    memory_stall stall;
    EXPECT_TRUE(parse_stall_line("some avg10=12.34 avg60=0.00 avg300=0.00 total=523244637", stall));
    EXPECT_TRUE(parse_stall_line("full avg10=1.99 avg60=0.00 avg300=0.00 total=5", stall));
    EXPECT_EQ(stall.some_us, 523'244'637U);
    EXPECT_EQ(stall.full_us, 5U);
    EXPECT_EQ(stall.some_avg10_percent, 12U);
    EXPECT_EQ(stall.full_avg10_percent, 1U);
    for (char const* const garbage : {"", "some", "some ", "some avg10=", "some avg10=1.0",
                                      "some avg10=1.0 total=", "some avg10=101 total=1",
                                      "some avg10=x total=1", "most avg10=1.0 total=1"}) {
        EXPECT_FALSE(parse_stall_line(garbage, stall)) << garbage;
    }
    EXPECT_EQ(stall.some_us, 523'244'637U);
}

TEST(cgroup_text, no_text_does_harm) {
    std::minstd_rand random{1};
    string_view const alphabet = "0129:/ .-=,\\max\n\xff";
    for (int round = 0; round < 20'000; ++round) {
        std::string text(random() % 60, ' ');
        for (char& each : text) {
            each = alphabet[random() % alphabet.size()];
        }
        std::size_t const half = text.size() / 2;
        memory_stall stall;
        base::text_buffer<16> little;
        static_cast<void>(parse_cgroup_line(text, "max"));
        static_cast<void>(parse_mount_line(text, "max"));
        static_cast<void>(path_below(string_view{text}.substr(0, half), text));
        static_cast<void>(parse_limit(text));
        static_cast<void>(parse_cpu_max(text));
        parse_stall_line("some avg10=" + text, stall);
        append_unescaped(text, little);
        EXPECT_LE(little.view().size(), 16U);
    }
}

}  // namespace
