#include "doctor/elf_file.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "doctor/elf_image.hpp"
#include "doctor/files.hpp"

namespace {

using namespace tarn::doctor;
using tarn::test::image_plan;
using tarn::test::image_writer;
using bytes = std::vector<std::byte>;

image_plan full_plan() {
    image_plan plan;
    plan.needed = {"libm.so.6", "libc.so.6"};
    plan.soname = "libfull.so.1";
    plan.runpath = "$ORIGIN/../lib";
    plan.dynamic_symbols = {{"malloc"},
                            {"free", false},
                            {"local", true, STB_LOCAL},
                            {"hidden", true, STB_GLOBAL, STV_HIDDEN},
                            {"weak", true, STB_WEAK}};
    plan.symbols = {{"je_malloc"}, {"main"}};
    return plan;
}

bool has(std::vector<std::string_view> const& names, std::string_view wanted) {
    return std::find(names.begin(), names.end(), wanted) != names.end();
}

TEST(elf_file, reads_what_the_loader_reads) {
    for (bool const has_gnu_hash : {false, true}) {
        image_plan plan = full_plan();
        plan.has_gnu_hash = has_gnu_hash;
        bytes const image = image_writer::write(plan);
        auto const file = read_elf(image);
        ASSERT_TRUE(file);
        EXPECT_EQ(file->damage, "");
        EXPECT_EQ(file->bits, 64U);
        EXPECT_EQ(file->type, elf_type::shared);
        EXPECT_TRUE(is_readable(*file));
        EXPECT_TRUE(file->has_interpreter);
        EXPECT_TRUE(file->is_pie);
        EXPECT_EQ(file->interpreter, "/lib64/ld-linux-x86-64.so.2");
        EXPECT_EQ(file->needed, (std::vector<std::string>{"libm.so.6", "libc.so.6"}));
        EXPECT_EQ(file->soname, "libfull.so.1");
        EXPECT_EQ(file->runpath, "$ORIGIN/../lib");
        EXPECT_EQ(file->exported, (std::vector<std::string_view>{"malloc", "weak"}));
        EXPECT_EQ(file->imported, (std::vector<std::string_view>{"free"}));
        EXPECT_TRUE(file->has_symbol_table);
        EXPECT_TRUE(has(file->internal, "je_malloc"));
        EXPECT_EQ(file->sections, (std::vector<std::string>{"", ".symtab", ".strtab"}));
    }
}

TEST(elf_file, without_symbols_is_whole_all_the_same) {
    for (bool const has_gnu_hash : {false, true}) {
        image_plan plan;
        plan.has_gnu_hash = has_gnu_hash;
        bytes const image = image_writer::write(plan);
        auto const file = read_elf(image);
        ASSERT_TRUE(file);
        EXPECT_EQ(file->damage, "");
        EXPECT_TRUE(file->exported.empty());
        EXPECT_FALSE(file->has_symbol_table);
    }
}

TEST(elf_file, reads_static_programs) {
    image_plan plan;
    plan.type = ET_EXEC;
    plan.interpreter = "";
    plan.has_dynamic = false;
    plan.symbols = {{"malloc"}};
    bytes const image = image_writer::write(plan);
    auto const file = read_elf(image);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->damage, "");
    EXPECT_EQ(file->type, elf_type::executable);
    EXPECT_FALSE(file->has_interpreter);
    EXPECT_TRUE(has(file->internal, "malloc"));
}

TEST(elf_file, knows_files_of_other_machines) {
    bytes image = image_writer::write(full_plan());
    image[EI_CLASS] = std::byte{ELFCLASS32};
    image[offsetof(Elf32_Ehdr, e_machine)] = std::byte{EM_386};
    auto file = read_elf(image);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->bits, 32U);
    EXPECT_EQ(machine_name(file->machine), "x86");
    EXPECT_FALSE(is_readable(*file));

    image[EI_DATA] = std::byte{ELFDATA2MSB};
    image[offsetof(Elf32_Ehdr, e_machine)] = std::byte{0};
    image[offsetof(Elf32_Ehdr, e_machine) + 1] = std::byte{EM_S390};
    file = read_elf(image);
    ASSERT_TRUE(file);
    EXPECT_EQ(machine_name(file->machine), "s390");
    EXPECT_FALSE(file->is_little_endian);
    EXPECT_EQ(machine_name(4711), "machine 4711");
}

TEST(elf_file, is_nothing_else) {
    std::string const magic = ELFMAG;  // and nothing behind it
    for (std::string const& text : {std::string{}, magic.substr(0, 1), magic,
                                    std::string{"#!/bin/sh\n"}, std::string{"MZ"}}) {
        EXPECT_FALSE(read_elf(std::as_bytes(std::span{text.data(), text.size()}))) << text;
    }
    EXPECT_FALSE(read_elf(bytes(1000)));
}

TEST(elf_file, cut_off_anywhere_is_damaged_or_whole) {
    bytes const image = image_writer::write(full_plan());
    for (std::size_t size = EI_NIDENT; size < image.size(); ++size) {
        // A vector of its own, so that a checker sees a read beyond its end.
        bytes const part(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(size));
        auto const file = read_elf(part);
        ASSERT_TRUE(file) << size;
        if (size < sizeof(Elf64_Ehdr)) {
            EXPECT_NE(file->damage, "") << size;
        }
    }
}

TEST(elf_file, survives_any_byte_changed) {
    bytes const image = image_writer::write(full_plan());
    for (std::size_t at = SELFMAG; at < image.size(); ++at) {
        for (unsigned const value : {0x00U, 0x01U, 0x7fU, 0x80U, 0xffU}) {
            bytes changed = image;
            changed[at] = static_cast<std::byte>(value);
            EXPECT_TRUE(read_elf(changed));
        }
    }
}

TEST(elf_file, survives_random_damage) {
    std::mt19937 random{20261121};  // NOLINT(cert-msc51-cpp): the same each time
    image_plan gnu = full_plan();
    gnu.has_gnu_hash = true;
    for (bytes const& image : {image_writer::write(full_plan()), image_writer::write(gnu)}) {
        for (int round = 0; round < 20'000; ++round) {
            bytes changed = image;
            for (unsigned hits = 1 + random() % 8; hits > 0; --hits) {
                changed[SELFMAG + random() % (changed.size() - SELFMAG)] =
                    static_cast<std::byte>(random());
            }
            changed.resize(changed.size() - random() % 64);
            EXPECT_TRUE(read_elf(changed));
        }
    }
}

TEST(elf_file, says_what_is_damaged) {
    bytes image = image_writer::write(full_plan());
    auto& header = *reinterpret_cast<Elf64_Ehdr*>(image.data());
    header.e_phoff = ~std::uint64_t{0} - 8;
    auto file = read_elf(image);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->damage, "its program headers lie beyond its end");
    header.e_phentsize = 1;
    file = read_elf(image);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->damage, "its program headers have an unknown size");
}

TEST(elf_file, reads_this_program) {
    auto const self = read_object("/proc/self/exe", "self");
    ASSERT_TRUE(self);
    EXPECT_EQ(self->file.damage, "");
    EXPECT_TRUE(self->file.has_interpreter);
    EXPECT_NE(std::find(self->file.needed.begin(), self->file.needed.end(), "libc.so.6"),
              self->file.needed.end());
    EXPECT_FALSE(read_object("/no/such/file", "none"));
    EXPECT_FALSE(read_object("/proc", "a folder"));
    EXPECT_FALSE(read_object("/dev/zero", "a device"));
}

}  // namespace
