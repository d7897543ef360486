#include "control/introspection.hpp"

#include <gtest/gtest.h>

#include <string>

namespace {

using namespace tarn::impl::control;
namespace base = tarn::impl::base;
namespace sizing = tarn::impl::sizing;

constexpr unsigned class_of_32 = sizing::class_of(32);

/// 100,000 bytes mapped for blocks, of which 30,000 in one huge block; 40,000 live elsewhere.
statistics example() {
    statistics of;
    of.metadata_bytes = 7000;
    of.huge_bytes = 30'000;
    of.huge_blocks = 1;
    of.huge_blocks_peak = 2;
    of.huge_peak_bytes = 45'000;
    of.mapped_bytes = 107'000;
    of.reserved_bytes = 1'000'000;
    of.arenas_peak_bytes = 90'000;
    of.live_bytes = 70'000;
    of.live_blocks = 11;
    of.free_runs_bytes = 16'384;
    of.free_runs = 1;
    of.classes[class_of_32].free_blocks = 50;
    return of;
}

TEST(introspection, adds_up) {
    glibc_figures const now = glibc_view(example());
    EXPECT_EQ(now.arena_bytes, 70'000U);
    EXPECT_EQ(now.in_use_bytes, 40'000U);
    EXPECT_EQ(now.free_bytes, 30'000U);
    EXPECT_EQ(now.free_blocks, 51U);
    EXPECT_EQ(now.huge_blocks, 1U);
    EXPECT_EQ(now.huge_bytes, 30'000U);
    EXPECT_EQ(now.returnable_bytes, 16'384U);
    EXPECT_EQ(now.arena_peak_bytes, 90'000U);
}

TEST(introspection, of_nothing_is_zero) {
    glibc_figures const now = glibc_view(statistics{});
    EXPECT_EQ(now.arena_bytes, 0U);
    EXPECT_EQ(now.free_bytes, 0U);
    EXPECT_EQ(now.free_blocks, 0U);
}

TEST(introspection, of_a_snapshot_that_does_not_add_up_never_wraps) {
    statistics of = example();
    of.mapped_bytes = 20'000;  // less than what is live
    glibc_figures now = glibc_view(of);
    EXPECT_EQ(now.arena_bytes, now.in_use_bytes);
    EXPECT_EQ(now.free_bytes, 0U);
    of.live_bytes = 10;  // less than the huge ones
    now = glibc_view(of);
    EXPECT_EQ(now.in_use_bytes, 0U);
}

TEST(introspection, malloc_stats_has_glibcs_lines) {
    base::text_buffer<introspection_text_bytes> text;
    describe_as_malloc_stats(example(), text);
    EXPECT_EQ(text.view(),
              "Arena 0:\n"
              "system bytes     =      70000\n"
              "in use bytes     =      40000\n"
              "Total (incl. mmap):\n"
              "system bytes     =     100000\n"
              "in use bytes     =      70000\n"
              "max mmap regions =          2\n"
              "max mmap bytes   =      45000\n");
}

TEST(introspection, malloc_info_has_glibcs_elements) {
    base::text_buffer<introspection_text_bytes> text;
    describe_as_malloc_info(example(), text);
    EXPECT_EQ(text.view(),
              "<malloc version=\"1\">\n"
              "<heap nr=\"0\">\n"
              "<sizes>\n"
              "  <size from=\"17\" to=\"32\" total=\"1600\" count=\"50\"/>\n"
              "</sizes>\n"
              "<total type=\"fast\" count=\"50\" size=\"1600\"/>\n"
              "<total type=\"rest\" count=\"1\" size=\"28400\"/>\n"
              "<system type=\"current\" size=\"70000\"/>\n"
              "<system type=\"max\" size=\"90000\"/>\n"
              "<aspace type=\"total\" size=\"1000000\"/>\n"
              "<aspace type=\"mprotect\" size=\"70000\"/>\n"
              "</heap>\n"
              "<total type=\"fast\" count=\"50\" size=\"1600\"/>\n"
              "<total type=\"rest\" count=\"1\" size=\"28400\"/>\n"
              "<total type=\"mmap\" count=\"1\" size=\"30000\"/>\n"
              "<system type=\"current\" size=\"70000\"/>\n"
              "<system type=\"max\" size=\"90000\"/>\n"
              "<aspace type=\"total\" size=\"1000000\"/>\n"
              "<aspace type=\"mprotect\" size=\"70000\"/>\n"
              "</malloc>\n");
}

TEST(introspection, malloc_info_has_room_for_every_class) {
    statistics of = example();
    for (class_statistics& each : of.classes) {
        each.free_blocks = 18'446'744'073'709;
    }
    base::text_buffer<introspection_text_bytes> text;
    describe_as_malloc_info(of, text);
    EXPECT_FALSE(text.truncated());
}

}  // namespace
