// On trees of files in place of the system's. Built once more with the fake system, whose files
// come in small pieces.
#include "control/cgroup.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <type_traits>

#include "base/units.hpp"
#include "platform/os.hpp"
#include "support/file_tree.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::control;
using platform::fake_os;

constexpr bool on_fake = std::is_same_v<platform::os, fake_os>;
constexpr char const* unlimited_v1 = "9223372036854771712\n";

class cgroups : public testing::Test {
protected:
    void SetUp() override {
        if constexpr (on_fake) {
            fake_os::reset();
            fake_os::control().read_bytes_max = 7;
            fake_os::control().cpus = 64;
        }
    }

    void TearDown() override {
        if constexpr (on_fake) {
            fake_os::reset();
        }
    }

    /// What /proc says about this process.
    void say(std::string const& cgroup, std::string const& mounts) {
        tree_.write("/proc/self/cgroup", cgroup);
        tree_.write("/proc/self/mountinfo",
                    "23 1 0:21 / /proc rw,nosuid - proc proc rw\n" + mounts +
                        "60 1 254:0 / /home rw shared:1 - ext4 /dev/sda rw\n");
    }

    void say_v1(std::string const& path, std::string const& mount_root = "/") {
        say("3:cpu,cpuacct:" + path + "\n2:memory:" + path + "\n0::/\n",
            "31 23 0:28 " + mount_root +
                " /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                "35 31 0:32 " +
                mount_root +
                " /cg/memory rw,relatime - cgroup cgroup rw,memory\n"
                "41 31 0:38 / /cg/unified rw - cgroup2 cgroup2 rw\n");
    }

    void say_v2(std::string const& path, std::string const& mount_root = "/") {
        say("0::" + path + "\n",
            "41 31 0:38 " + mount_root + " /cg rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
    }

    cgroup find() { return find_cgroup(cgroup_controller::memory, tree_.root()); }

    std::string found() { return below_root(find().directory()); }

    std::string below_root(std::string_view directory) {
        return directory.size() < tree_.root().size()
                   ? std::string{directory}
                   : std::string{directory.substr(tree_.root().size())};
    }

    /// Quota alone: no machine has that many CPUs.
    std::uint32_t cpus() { return read_cpu_thousandths(tree_.root()); }

    static std::optional<std::size_t> needed_bytes(cgroup const& group) {
        auto const usage = read_memory_usage(group);
        return usage ? std::optional{usage->needed_bytes} : std::nullopt;
    }

    static std::uint32_t all_cpus() { return platform::os::cpus_allowed() * 1000; }

    tarn::test::file_tree tree_;
};

TEST_F(cgroups, no_proc_no_group) {
    cgroup group = find();
    EXPECT_EQ(group.version, cgroup_version::none);
    EXPECT_EQ(read_memory_limits(group).hard_bytes, no_limit);
    EXPECT_EQ(read_memory_limits(group).high_bytes, no_limit);
    EXPECT_EQ(needed_bytes(group), std::nullopt);
    EXPECT_EQ(memory_exhaustions(group), 0U);
    EXPECT_EQ(read_memory_stall(group, tree_.root()), std::nullopt);
    EXPECT_EQ(cpus(), all_cpus());
}

TEST_F(cgroups, v1_takes_the_least_of_all_levels) {
    say_v1("/jobs/7");
    tree_.write("/cg/memory/memory.limit_in_bytes", unlimited_v1)
        .write("/cg/memory/jobs/memory.limit_in_bytes", "104857600\n")
        .write("/cg/memory/jobs/memory.usage_in_bytes", "50000000\n")
        .write("/cg/memory/jobs/memory.stat",
               "cache 1\ninactive_file 7\nhierarchical_memory_limit 104857600\n"
               "total_inactive_file 20000000\n")
        .write("/cg/memory/jobs/memory.oom_control",
               "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
        .write("/cg/memory/jobs/7/memory.limit_in_bytes", "209715200\n")
        .write("/cg/memory/jobs/7/memory.usage_in_bytes", "1\n");
    cgroup group = find();
    EXPECT_EQ(group.version, cgroup_version::v1);
    EXPECT_EQ(below_root(group.directory()), "/cg/memory/jobs/7");
    EXPECT_EQ(needed_bytes(group), 1U);  // its own before a limit is known
    memory_limits const limits = read_memory_limits(group);
    EXPECT_EQ(limits.hard_bytes, 100 * MiB);
    EXPECT_EQ(limits.high_bytes, no_limit);
    EXPECT_EQ(below_root(group.limiting_directory()), "/cg/memory/jobs");
    EXPECT_EQ(needed_bytes(group), 30'000'000U);
    EXPECT_EQ(read_memory_usage(group)->charged_bytes, 50'000'000U);
    EXPECT_EQ(memory_exhaustions(group), 2U);
}

TEST_F(cgroups, v1_knows_limits_of_ancestors_out_of_sight) {
    say_v1("/docker/abc", "/docker/abc");
    tree_.write("/cg/memory/memory.limit_in_bytes", unlimited_v1)
        .write("/cg/memory/memory.usage_in_bytes", "100\n")
        .write("/cg/memory/memory.stat", "hierarchical_memory_limit 1048576\n");
    cgroup group = find();
    EXPECT_EQ(below_root(group.directory()), "/cg/memory");
    EXPECT_EQ(read_memory_limits(group).hard_bytes, 1 * MiB);
    EXPECT_EQ(needed_bytes(group), 100U);
}

TEST_F(cgroups, v1_unlimited) {
    say_v1("/");
    tree_.write("/cg/memory/memory.limit_in_bytes", unlimited_v1)
        .write("/cg/memory/memory.stat", "hierarchical_memory_limit 9223372036854771712\n");
    cgroup group = find();
    EXPECT_EQ(read_memory_limits(group).hard_bytes, no_limit);
    EXPECT_EQ(below_root(group.limiting_directory()), "/cg/memory");
}

TEST_F(cgroups, v2_takes_the_least_of_all_levels) {
    say_v2("/a.slice/b.service");
    tree_.write("/cg/a.slice/memory.max", "300000000\n")
        .write("/cg/a.slice/memory.high", "100000000\n")
        .write("/cg/a.slice/memory.current", "90000000\n")
        .write("/cg/a.slice/memory.stat", "anon 1\nfile 2\ninactive_file 95000000\n")
        .write("/cg/a.slice/memory.events", "low 0\nhigh 9\nmax 8\noom 1\noom_kill 5\n")
        .write("/cg/a.slice/b.service/memory.max", "200000000\n")
        .write("/cg/a.slice/b.service/memory.high", "max\n")
        .write("/cg/a.slice/b.service/memory.pressure",
               "some avg10=3.00 avg60=0.00 avg300=0.00 total=77\n"
               "full avg10=0.00 avg60=0.00 avg300=0.00 total=11\n");
    cgroup group = find();
    EXPECT_EQ(group.version, cgroup_version::v2);
    memory_limits const limits = read_memory_limits(group);
    EXPECT_EQ(limits.hard_bytes, 200'000'000U);
    EXPECT_EQ(limits.high_bytes, 100'000'000U);
    EXPECT_EQ(below_root(group.limiting_directory()), "/cg/a.slice");
    EXPECT_EQ(needed_bytes(group), 0U);  // more cache than usage: read at two moments
    EXPECT_EQ(memory_exhaustions(group), 1U);
    auto const stall = read_memory_stall(group, tree_.root());
    ASSERT_TRUE(stall.has_value());
    EXPECT_EQ(stall->some_us, 77U);
    EXPECT_EQ(stall->full_us, 11U);
    EXPECT_EQ(stall->some_avg10_percent, 3U);
}

TEST_F(cgroups, stall_of_the_system_where_the_group_has_none) {
    say_v2("/a");
    tree_.write("/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n");
    auto const stall = read_memory_stall(find(), tree_.root());
    ASSERT_TRUE(stall.has_value());
    EXPECT_EQ(stall->some_us, 5U);
    tree_.write("/proc/pressure/memory", "nonsense\n\n\n");
    EXPECT_EQ(read_memory_stall(find(), tree_.root()), std::nullopt);
}

TEST_F(cgroups, hybrid_prefers_the_version_that_has_the_controller) {
    say_v1("/x");
    EXPECT_EQ(found(), "/cg/memory/x");
    say("5:name=systemd:/s\n3:cpu:/c\n0::/u\n",
        "1 1 0:1 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n"
        "2 1 0:2 / /cg/unified rw - cgroup2 cgroup2 rw\n");
    EXPECT_EQ(found(), "/cg/unified/u");
}

TEST_F(cgroups, mount_shows_part_of_the_hierarchy) {
    say_v2("/docker/abc/init", "/docker/abc");
    EXPECT_EQ(found(), "/cg/init");
    say_v2("/docker/abc", "/docker/abc");
    EXPECT_EQ(found(), "/cg");
    say_v2("/docker/abcd", "/docker/abc");
    EXPECT_EQ(find().version, cgroup_version::none);
}

TEST_F(cgroups, namespaces) {
    say_v2("/", "/");
    EXPECT_EQ(found(), "/cg");
    say_v2("/../../x", "/../..");
    EXPECT_EQ(found(), "/cg/x");
    say_v2("/a", "/../..");  // the mount shows an ancestor, whose limits count
    EXPECT_EQ(found(), "/cg");
    say_v2("/../x", "/");  // moved out of the namespace: what is mounted is none of ours
    EXPECT_EQ(find().version, cgroup_version::none);
}

TEST_F(cgroups, mount_that_shows_most_ancestors) {
    say("0::/a/b\n",
        "1 1 0:1 /a/b /inner rw - cgroup2 c rw\n"
        "2 1 0:1 /other /other rw - cgroup2 c rw\n"
        "3 1 0:1 / /outer rw - cgroup2 c rw\n"
        "4 1 0:1 /a /middle rw - cgroup2 c rw\n");
    EXPECT_EQ(found(), "/outer/a/b");
}

TEST_F(cgroups, blanks_in_paths) {
    say("0::/a b\n", "1 1 0:1 / /my\\040cg rw - cgroup2 c rw\n");
    tree_.write("/my cg/a b/memory.max", "4096\n");
    cgroup group = find();
    EXPECT_EQ(below_root(group.directory()), "/my cg/a b");
    EXPECT_EQ(read_memory_limits(group).hard_bytes, 4096U);
}

TEST_F(cgroups, group_that_vanished_leaves_its_ancestors) {
    say_v2("/a/gone (deleted)");
    tree_.write("/cg/a/memory.max", "8192\n");
    cgroup group = find();
    EXPECT_EQ(read_memory_limits(group).hard_bytes, 8192U);
    EXPECT_EQ(below_root(group.limiting_directory()), "/cg/a");
}

TEST_F(cgroups, garbage_counts_as_not_told) {
    say_v2("/a");
    for (char const* const text : {"", "\n", "x", "-5\n", "99999999999999999999999\n", "1 2\n"}) {
        tree_.write("/cg/a/memory.max", text)
            .write("/cg/a/memory.high", text)
            .write("/cg/a/memory.current", text)
            .write("/cg/a/memory.stat", text);
        cgroup group = find();
        EXPECT_EQ(read_memory_limits(group).hard_bytes, no_limit) << text;
        EXPECT_EQ(read_memory_limits(group).high_bytes, no_limit) << text;
        EXPECT_EQ(needed_bytes(group), std::nullopt) << text;
    }
    tree_.write("/cg/a/cpu.max/folder", "");
    EXPECT_EQ(cpus(), all_cpus());
}

TEST_F(cgroups, garbage_in_proc_does_no_harm) {
    std::minstd_rand random{2};
    std::string_view const alphabet = "0 :/.-,\\\ncgroup2memory";
    for (int round = 0; round < 100; ++round) {
        std::string cgroup(random() % 3000, ' ');
        std::string mounts(random() % 6000, ' ');
        for (std::string* const text : {&cgroup, &mounts}) {
            for (char& each : *text) {
                each = alphabet[random() % alphabet.size()];
            }
        }
        say(cgroup + "\n0::/a\n", mounts + "\n1 1 0:1 / /cg rw - cgroup2 c rw\n");
        find();
        cpus();
    }
}

TEST_F(cgroups, long_lines_and_many_lines) {
    std::string const lower(5000, 'l');
    std::string mounts = "1 1 0:1 / / rw - overlay overlay rw,lowerdir=" + lower + "\n";
    for (int i = 0; i < 500; ++i) {
        mounts += "50 1 0:9 / /var/lib/docker/overlay2/" + std::to_string(i) +
                  "/merged rw,relatime shared:300 - overlay overlay rw\n";
    }
    // As long as the room for a line and its part that is kept, give or take.
    for (std::size_t length = 740; length < 1060; ++length) {
        mounts += std::string(length, 'x') + "\n";
    }
    say("9:cpuset:/" + lower + "\n0::/a\n", mounts + "41 1 0:3 / /cg rw - cgroup2 c rw");
    EXPECT_EQ(found(), "/cg/a");
}

TEST_F(cgroups, paths_longer_than_the_room_are_not_told) {
    for (std::size_t length = 400; length < 2000; length += 13) {
        std::string const path = "/" + std::string(length, 'p');
        say_v2(path);
        cgroup group = find();
        EXPECT_TRUE(group.version == cgroup_version::none ||
                    below_root(group.directory()) == "/cg" + path);
        read_memory_limits(group);
        say("0::/a\n", "41 31 0:38 / " + path + " rw - cgroup2 cgroup2 rw\n");
        group = find();
        EXPECT_TRUE(group.version == cgroup_version::none ||
                    below_root(group.directory()) == path + "/a");
        read_memory_limits(group);
    }
}

TEST_F(cgroups, deep_hierarchy) {
    std::string path;
    for (int level = 0; level < 200; ++level) {
        path += "/d";
    }
    say_v2(path);
    tree_.write("/cg/d/memory.max", "12345\n");
    cgroup group = find();
    EXPECT_EQ(read_memory_limits(group).hard_bytes, 12'345U);
}

TEST_F(cgroups, cpu_quota_is_the_least_of_all_levels) {
    say_v2("/a/b");
    tree_.write("/cg/a/cpu.max", "25000 100000\n").write("/cg/a/b/cpu.max", "max 100000\n");
    EXPECT_EQ(cpus(), 250U);
    tree_.write("/cg/a/b/cpu.max", "1000 100000\n");
    EXPECT_EQ(cpus(), 10U);
    tree_.write("/cg/a/cpu.max", "max\n").write("/cg/a/b/cpu.max", "900000000 100000\n");
    EXPECT_EQ(cpus(), all_cpus());
    say_v1("/a/b");
    EXPECT_EQ(cpus(), all_cpus());
    tree_.write("/cg/cpu,cpuacct/a/b/cpu.cfs_quota_us", "-1\n")
        .write("/cg/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n")
        .write("/cg/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n")
        .write("/cg/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(cpus(), 500U);
}

TEST_F(cgroups, errno_stays) {
    say_v1("/a");
    errno = EDOM;
    cgroup group = find();
    read_memory_limits(group);
    static_cast<void>(read_memory_usage(group));
    static_cast<void>(memory_exhaustions(group));
    static_cast<void>(read_memory_stall(group, tree_.root()));
    cpus();
    EXPECT_EQ(errno, EDOM);
}

TEST_F(cgroups, files_that_do_not_open) {
    if constexpr (on_fake) {
        say_v2("/a");
        fake_os::control().files_open = false;
        EXPECT_EQ(find().version, cgroup_version::none);
    }
}

TEST_F(cgroups, of_this_process) {
    cgroup group = find_cgroup(cgroup_controller::memory);
    memory_limits const limits = read_memory_limits(group);
    if (group.version == cgroup_version::none) {
        GTEST_SKIP() << "no memory cgroup in sight";
    }
    auto const usage = needed_bytes(group);
    if (usage) {
        EXPECT_GT(*usage, 0U);
        EXPECT_LE(*usage, limits.hard_bytes);
    }
    EXPECT_GE(read_cpu_thousandths(), 1U);
}

}  // namespace
