#include "doctor/proc_text.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace tarn::doctor;
using names = std::vector<std::string>;

TEST(proc_text, splits) {
    EXPECT_EQ(split("", ':').size(), 0U);
    EXPECT_EQ(split("a::b", ':'), (std::vector<std::string_view>{"a", "", "b"}));
    EXPECT_EQ(words_of("  a \t b"), (std::vector<std::string_view>{"a", "b"}));
    EXPECT_EQ(words_of(" ").size(), 0U);
    EXPECT_EQ(number_of("17"), 17U);
    EXPECT_FALSE(number_of("17x"));
    EXPECT_FALSE(number_of(""));
    EXPECT_FALSE(number_of("99999999999999999999999"));
}

TEST(proc_text, finds_values) {
    std::string const status = "Name:\tcat\nUid:\t1\t2\t3\t4\nVmSize:\n";
    EXPECT_EQ(value_of(status, "Name"), "cat");
    EXPECT_EQ(value_of(status, "Uid"), "1\t2\t3\t4");
    EXPECT_EQ(value_of(status, "VmSize"), "");
    EXPECT_EQ(value_of(status, "Nam"), "");
    EXPECT_EQ(chosen_of("always [madvise] never\n"), "madvise");
    EXPECT_EQ(chosen_of("2\n"), "2");
    EXPECT_EQ(chosen_of("]["), "][");
    EXPECT_EQ(chosen_of(""), "");
}

TEST(proc_text, reads_maps) {
    std::string const text =
        "1000-2000 r--p 00000000 fe:00 12                         /lib/a b.so\n"
        "2000-3000 r-xp 00001000 fe:00 12                         /lib/a b.so\n"
        "3000-5000 rw-p 00000000 00:00 0                          [anon:tarn]\n"
        "5000-6000 r-xp 00000000 fe:00 13                         /lib/gone.so (deleted)\n"
        "6000-7000 rw-p 00000000 00:00 0 \n"
        "7000-8000 r--p 00000000 fe:00 14                         /data\\012file\n"
        "nonsense\n"
        "9000-8000 r--p 00000000 fe:00 14                         /backwards\n"
        "x-y r--p 00000000 fe:00 14                               /no/address\n";
    memory_map const map = parse_maps(text);
    EXPECT_EQ(map.mappings, 6U);
    EXPECT_EQ(map.tarn_bytes, 0x2000U);
    ASSERT_EQ(map.files.size(), 3U);
    EXPECT_EQ(map.files[0].path, "/lib/a b.so");
    EXPECT_EQ(map.files[0].start, 0x1000U);
    EXPECT_EQ(map.files[0].end, 0x2000U);
    EXPECT_EQ(map.files[0].last_end, 0x3000U);
    EXPECT_TRUE(map.files[0].is_code);
    EXPECT_FALSE(map.files[0].is_deleted);
    EXPECT_EQ(map.files[1].path, "/lib/gone.so");
    EXPECT_TRUE(map.files[1].is_deleted);
    EXPECT_EQ(map.files[2].path, "/data\nfile");
    EXPECT_FALSE(map.files[2].is_code);
}

TEST(proc_text, reads_the_environment) {
    using namespace std::string_literals;
    environment const good{"HOME=/\0LD_PRELOAD=/x.so\0EMPTY=\0"s};
    EXPECT_EQ(good.value("LD_PRELOAD"), "/x.so");
    EXPECT_EQ(good.value("LD_PRELOA"), "");
    EXPECT_EQ(good.value("EMPTY"), "");
    EXPECT_TRUE(good.is_plausible());
    EXPECT_FALSE(environment{""}.is_plausible());
    EXPECT_FALSE(environment{"        \0\0\0\0"s}.is_plausible());
    EXPECT_FALSE(environment{"worker process\0X=1\0"s}.is_plausible());
}

TEST(proc_text, reads_the_auxiliary_vector) {
    std::array<std::uint64_t, 6> const vector{AT_PAGESZ, 4096, AT_SECURE, 1, AT_NULL, 0};
    std::string_view const bytes{reinterpret_cast<char const*>(vector.data()), sizeof vector};
    EXPECT_EQ(auxiliary_value(bytes, AT_SECURE), 1U);
    EXPECT_EQ(auxiliary_value(bytes, AT_PHDR), std::nullopt);
    EXPECT_EQ(auxiliary_value(bytes.substr(0, 20), AT_SECURE), std::nullopt);
}

TEST(proc_text, reads_preload_lists) {
    EXPECT_EQ(preload_names(""), names{});
    EXPECT_EQ(preload_names(":/a.so b.so::"), (names{"/a.so", "b.so"}));
    EXPECT_EQ(preload_names("# none yet\n/c.so\t/d.so # two\n"), (names{"/c.so", "/d.so"}));
}

TEST(proc_text, reads_limits) {
    std::string const text =
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max data size             unlimited            unlimited            bytes     \n"
        "Max address space         123                  unlimited            bytes     \n";
    EXPECT_EQ(soft_limit(text, "Max address space").value, 123U);
    EXPECT_TRUE(soft_limit(text, "Max data size").is_known);
    EXPECT_FALSE(soft_limit(text, "Max data size").value);
    EXPECT_FALSE(soft_limit(text, "Max locked memory").is_known);
}

constexpr char const* hybrid_mounts =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

TEST(proc_text, finds_groups_of_version_1) {
    char const* const groups = "4:memory:/job/1\n1:cpu,cpuacct:/\n0::/other\n";
    auto const memory = group_of("memory", groups, hybrid_mounts);
    ASSERT_TRUE(memory);
    EXPECT_EQ(memory->version, 1U);
    EXPECT_EQ(memory->mount, "/sys/fs/cgroup/memory");
    EXPECT_EQ(memory->folder, "/sys/fs/cgroup/memory/job/1");
    auto const cpu = group_of("cpu", groups, hybrid_mounts);
    ASSERT_TRUE(cpu);
    EXPECT_EQ(cpu->folder, "/sys/fs/cgroup/cpu");
}

TEST(proc_text, finds_groups_of_version_2) {
    char const* const mounts = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    auto const group = group_of("memory", "0::/user/x.scope\n", mounts);
    ASSERT_TRUE(group);
    EXPECT_EQ(group->version, 2U);
    EXPECT_EQ(group->folder, "/sys/fs/cgroup/user/x.scope");
    EXPECT_EQ(group_of("memory", "0::/../sibling\n", mounts)->folder, "/sys/fs/cgroup");
    // A container that sees only its own part of the tree.
    char const* const part = "41 31 0:38 /box/7 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    EXPECT_EQ(group_of("memory", "0::/box/7/a\n", part)->folder, "/sys/fs/cgroup/a");
    EXPECT_EQ(group_of("memory", "0::/box/77/a\n", part)->folder, "/sys/fs/cgroup");
}

TEST(proc_text, finds_no_group_in_nonsense) {
    EXPECT_FALSE(group_of("memory", "", hybrid_mounts));
    EXPECT_FALSE(group_of("memory", "x\n::\n:\n", ""));
    EXPECT_FALSE(group_of("memory", "4:memory:/a\n", "1 2 3 - cgroup\n-\n"));
}

}  // namespace
