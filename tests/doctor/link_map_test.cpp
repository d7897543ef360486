#include "doctor/link_map.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cstdint>
#include <random>
#include <vector>

namespace {

using namespace tarn::doctor;

bool read_own(std::uint64_t address, std::span<std::byte> to) {
    // The kernel says whether all of it may be read: a pipe takes it, or does not.
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) {
        return false;
    }
    auto const size = static_cast<ssize_t>(to.size());
    bool const is_there =
        ::write(ends[1], reinterpret_cast<void const*>(address), to.size()) == size &&
        ::read(ends[0], to.data(), to.size()) == size;
    ::close(ends[0]);
    ::close(ends[1]);
    return is_there;
}

std::vector<std::uint64_t> expected() {
    std::vector<std::uint64_t> list;
    void* const self = ::dlopen(nullptr, RTLD_LAZY | RTLD_NOLOAD);
    link_map* each = nullptr;
    if (self != nullptr && ::dlinfo(self, RTLD_DI_LINKMAP, static_cast<void*>(&each)) == 0) {
        for (; each != nullptr; each = each->l_next) {
            list.push_back(reinterpret_cast<std::uint64_t>(each->l_ld));
        }
    }
    return list;
}

TEST(link_map, is_the_loaders) {
    auto const found = read_link_map(read_own, ::getauxval(AT_PHDR), ::getauxval(AT_PHNUM));
    EXPECT_GT(found.size(), 2U);
    EXPECT_EQ(found, expected());
}

TEST(link_map, is_empty_where_nothing_can_be_read) {
    auto const nothing = [](std::uint64_t, std::span<std::byte>) { return false; };
    EXPECT_TRUE(read_link_map(nothing, 0, 0).empty());
    EXPECT_TRUE(read_link_map(nothing, 4096, 1000).empty());
}

TEST(link_map, ends_in_any_memory) {
    std::mt19937_64 random{1};  // NOLINT(cert-msc51-cpp): the same each time
    for (int round = 0; round < 100; ++round) {
        auto const noise = [&random](std::uint64_t, std::span<std::byte> to) {
            for (std::byte& each : to) {
                each = static_cast<std::byte>(random() % 8);  // small tags are often valid
            }
            return true;
        };
        EXPECT_LE(read_link_map(noise, 4096, 20).size(), 100'000U);
    }
}

}  // namespace
