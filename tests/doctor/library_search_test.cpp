#include "doctor/library_search.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "cli/temporary_folder.hpp"
#include "doctor/elf_image.hpp"
#include "doctor/files.hpp"

namespace {

using namespace tarn::doctor;
using tarn::test::image_plan;
using tarn::test::image_writer;

/// A cache with one entry for every processor and one for some only.
std::string cache_text() {
    std::string const strings = std::string{"libx.so"} + '\0' + "/lib/libx.so" + '\0';
    constexpr std::uint32_t strings_at = 48 + 2 * 24;
    auto const number = [](std::uint64_t value, std::size_t bytes) {
        std::string text(bytes, '\0');
        std::memcpy(text.data(), &value, bytes);
        return text;
    };
    std::string text = "glibc-ld.so.cache1.1" + number(2, 4) + number(strings.size(), 4);
    text.resize(48);
    for (std::uint64_t const hardware : {std::uint64_t{1} << 62, std::uint64_t{0}}) {
        text += number(0x303, 4) + number(strings_at, 4) + number(strings_at + 8, 4) +
                number(0, 4) + number(hardware, 8);
    }
    return text + strings;
}

auto parse(std::string const& text) {
    return parse_loader_cache(std::as_bytes(std::span{text.data(), text.size()}));
}

TEST(library_search, reads_the_loaders_cache) {
    auto const entries = parse(cache_text());
    ASSERT_EQ(entries.size(), 1U);
    EXPECT_EQ(entries[0].first, "libx.so");
    EXPECT_EQ(entries[0].second, "/lib/libx.so");
    EXPECT_EQ(parse("ld.so-1.7.0 of old" + cache_text()).size(), 1U);
    EXPECT_EQ(parse("").size(), 0U);
    EXPECT_EQ(parse("glibc-ld.so.cache1.1").size(), 0U);
}

TEST(library_search, survives_a_damaged_cache) {
    std::mt19937 random{7};  // NOLINT(cert-msc51-cpp): the same each time
    std::string const good = cache_text();
    for (int round = 0; round < 5'000; ++round) {
        std::string bad = good;
        bad[20 + random() % (bad.size() - 20)] = static_cast<char>(random());
        bad.resize(bad.size() - random() % 40);
        EXPECT_LE(parse(bad).size(), 2U);
    }
}

TEST(library_search, expands_the_origin) {
    EXPECT_EQ(folders_of("", "/o"), std::vector<std::string>{});
    EXPECT_EQ(folders_of("$ORIGIN/../lib:${ORIGIN}::/x", "/o"),
              (std::vector<std::string>{"/o/../lib", "/o", ".", "/x"}));
}

class searched_folder : public testing::Test {
protected:
    std::string write(std::string const& name, image_plan const& plan) {
        std::string path = folder_.path() + "/" + name;
        std::filesystem::create_directories(std::filesystem::path{path}.parent_path());
        auto const image = image_writer::write(plan);
        std::ofstream{path, std::ios::binary}.write(reinterpret_cast<char const*>(image.data()),
                                                    static_cast<std::streamsize>(image.size()));
        return path;
    }

    tarn::cli::temporary_folder folder_;
};

TEST_F(searched_folder, is_found_by_runpath_then_library_path_first) {
    image_plan plan;
    plan.runpath = "$ORIGIN/near";
    std::string const path = write("program", plan);
    image_plan library;
    library.interpreter = "";
    std::string const near = write("near/libodd.so", library);
    std::string const far = write("far/libodd.so", library);
    auto const program = read_object(path, path);
    ASSERT_TRUE(program);

    library_search by_runpath{*program, ""};
    object const* found = by_runpath.find("libodd.so", *program);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->path, near);
    EXPECT_EQ(by_runpath.find("libodd.so", *program), found);
    EXPECT_EQ(by_runpath.find("libnowhere.so", *program), nullptr);

    library_search by_variable{*program, folder_.path() + "/far"};
    EXPECT_EQ(by_variable.find("libodd.so", *program)->path, far);
    EXPECT_EQ(by_variable.find(near, *program)->path, near);
    EXPECT_NE(by_variable.find("libc.so.6", *program), nullptr);
}

}  // namespace
