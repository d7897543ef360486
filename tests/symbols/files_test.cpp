// What describe_calls() makes of files that are stripped, split, deleted, replaced or damaged.
#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/symbols.hpp"
#include "support/build.hpp"
#include "support/file_tree.hpp"
#include "support/known_calls.hpp"
#include "support/random.hpp"

namespace {

using namespace tarn::impl::platform;
using tarn::test::file_tree;
using tarn::test::known_call;
namespace fs = std::filesystem;

struct frame {
    std::string function;
    std::string file;
    unsigned line;
    std::string module;
    std::size_t build_id_digits;
};

std::vector<frame> describe(void const* address) {
    std::vector<frame> frames;
    auto add = [&](source_frame const& seen) noexcept {
        frames.push_back({std::string{seen.function}, std::string{seen.file}, seen.line,
                          std::string{seen.place->module()}, seen.place->build_id().size()});
    };
    describe_calls({&address, 1}, frame_visitor{add});
    return frames;
}

/// A copy of the library in a folder of its own, which may be changed before it is opened.
class guest {
public:
    guest() { fs::copy_file(TARN_GUEST, path()); }

    ~guest() {
        if (library_ != nullptr) {
            ::dlclose(library_);
        }
    }

    guest(guest const&) = delete;
    guest& operator=(guest const&) = delete;

    [[nodiscard]] std::string path() const { return tree_.root() + "/libguest.so"; }

    /// Of another file in its folder.
    [[nodiscard]] std::string path(std::string const& name) const {
        return tree_.root() + "/" + name;
    }

    /// objcopy of the library, onto itself or to another file in its folder.
    [[nodiscard]] bool change(std::string const& options, std::string const& to = {}) const {
        std::string const command = std::string{TARN_OBJCOPY} + " " + options + " " + path() + " " +
                                    (to.empty() ? "" : path(to));
        // NOLINTNEXTLINE(concurrency-mt-unsafe): the test has one thread
        return std::system(command.c_str()) == 0;
    }

    void open() {
        library_ = ::dlopen(path().c_str(), RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(library_, nullptr) << ::dlerror();
    }

    [[nodiscard]] known_call call(char const* name = "guest_call") const {
        known_call seen;
        auto const function = reinterpret_cast<void (*)(known_call*)>(::dlsym(library_, name));
        if (function != nullptr) {
            function(&seen);
        }
        return seen;
    }

private:
    file_tree tree_;
    void* library_ = nullptr;
};

class symbols_files : public testing::Test {
protected:
    // Else what was read of a copy that lay at the same place, and is the same, would do.
    void SetUp() override { release_symbols(); }

    void expect_lines() const {
        known_call const call = library.call();
        std::vector<frame> const frames = describe(call.address);
        ASSERT_EQ(frames.size(), 2U);
        EXPECT_EQ(frames[0].line, call.line);
        EXPECT_EQ(frames[1].line, call.outer_line);
        EXPECT_TRUE(frames[0].file.ends_with("support/known_calls.hpp")) << frames[0].file;
        EXPECT_EQ(frames[0].module,
                  fs::canonical(fs::path{library.path()}.parent_path()).string() + "/libguest.so");
    }

    /// Neither file nor line; the function where the symbol table has it.
    void expect_place(std::string const& function = {}) const {
        std::vector<frame> const frames = describe(library.call().address);
        ASSERT_EQ(frames.size(), 1U);
        EXPECT_EQ(frames[0].line, 0U);
        EXPECT_EQ(frames[0].file, "");
        if (!function.empty()) {
            EXPECT_NE(frames[0].function.find(function), std::string::npos) << frames[0].function;
        }
        EXPECT_EQ(fs::path{frames[0].module}.filename(), "libguest.so");
        EXPECT_EQ(frames[0].build_id_digits, 40U);
    }

    guest library;
};

TEST_F(symbols_files, a_library_opened_late) {
    library.open();
    expect_lines();
}

TEST_F(symbols_files, compressed_sections) {
    if (!library.change("--compress-debug-sections=zlib")) {
        GTEST_SKIP() << "objcopy can't compress";
    }
    library.open();
    expect_lines();
}

TEST_F(symbols_files, only_symbols) {
    ASSERT_TRUE(library.change("--strip-debug"));
    library.open();
    expect_place("with_inlined()");
}

TEST_F(symbols_files, stripped) {
    ASSERT_TRUE(library.change("--strip-all"));
    library.open();
    expect_place();
}

TEST_F(symbols_files, debug_file_beside_it) {
    std::string const debug = library.path("libguest.debug");
    ASSERT_TRUE(library.change("--only-keep-debug", "libguest.debug"));
    ASSERT_TRUE(library.change("--strip-all"));
    ASSERT_TRUE(library.change("--add-gnu-debuglink=" + debug));
    library.open();
    expect_lines();
}

TEST_F(symbols_files, deleted_after_it_was_opened) {
    library.open();
    fs::remove(library.path());
    expect_place();
}

TEST_F(symbols_files, replaced_after_it_was_opened) {
    library.open();
    std::ofstream{library.path("other")} << "another text";
    fs::rename(library.path("other"), library.path());
    expect_place();
}

TEST_F(symbols_files, replaced_by_another_build) {
    library.open();
    fs::copy_file(fs::read_symlink("/proc/self/exe"), library.path("other"));
    fs::rename(library.path("other"), library.path());
    expect_place();
}

TEST_F(symbols_files, reopened_elsewhere_and_again) {
    for (int i = 0; i < 3; ++i) {
        guest again;
        again.open();
        known_call const call = again.call("guest_static_call");
        std::vector<frame> const frames = describe(call.address);
        ASSERT_EQ(frames.size(), 1U);
        EXPECT_EQ(frames[0].line, call.line);
    }
}

// Damage: a copy with the same build id takes the file's place, as far as that can be told.

std::string read_file(std::string const& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// Where a section lies in the file; nothing: there is none.
std::optional<Elf64_Shdr> find_section(std::string const& file, std::string_view name) {
    Elf64_Ehdr header;
    std::memcpy(&header, file.data(), sizeof header);
    auto const section = [&](std::size_t index) {
        Elf64_Shdr found;
        std::memcpy(&found, file.data() + header.e_shoff + index * sizeof found, sizeof found);
        return found;
    };
    Elf64_Shdr const names = section(header.e_shstrndx);
    for (std::size_t i = 0; i < header.e_shnum; ++i) {
        Elf64_Shdr const found = section(i);
        if (name == file.data() + names.sh_offset + found.sh_name) {
            return found;
        }
    }
    return std::nullopt;
}

void replace(guest const& library, std::string_view text) {
    std::ofstream{library.path("damaged"), std::ios::binary} << text;
    fs::rename(library.path("damaged"), library.path());
}

class damaged_files : public symbols_files {
protected:
    void SetUp() override {
        library.open();
        whole = read_file(library.path());
    }

    /// With `text` in the place of the library's file, a call has some answer and we live.
    void try_with(std::string_view text) const {
        replace(library, text);
        release_symbols();
        std::vector<frame> const frames = describe(library.call().address);
        ASSERT_GE(frames.size(), 1U);
        EXPECT_EQ(fs::path{frames[0].module}.filename(), "libguest.so");
    }

    /// Some bytes of a part of the file, each time others.
    void try_with_changes(std::size_t start, std::size_t bytes, std::uint64_t rounds) {
        for (std::uint64_t round = 0; round < rounds; ++round) {
            std::string damaged = whole;
            std::uint64_t const changes = random.between(1, 8);
            for (std::uint64_t i = 0; i < changes; ++i) {
                damaged[start + random.below(bytes)] = static_cast<char>(random.below(256));
            }
            try_with(damaged);
        }
    }

    std::string whole;
    std::uint64_t const seed = 20261122;
    tarn::test::random_stream random{seed};
};

TEST_F(damaged_files, cut_anywhere) {
    // Sizes that keep the headers and the build id, others too.
    std::size_t const step = whole.size() / tarn::test::scaled(48);
    for (std::size_t size = 0; size < whole.size(); size += step) {
        SCOPED_TRACE(testing::Message() << "cut to " << size);
        try_with({whole.data(), size});
    }
    try_with(whole);
    expect_lines();
}

TEST_F(damaged_files, bytes_changed_in_sections) {
    for (char const* const name : {".debug_info", ".debug_abbrev", ".debug_line", ".debug_ranges",
                                   ".debug_aranges", ".debug_str", ".symtab", ".strtab"}) {
        auto const section = find_section(whole, name);
        if (section && section->sh_size != 0) {
            SCOPED_TRACE(testing::Message() << name << ", seed " << seed);
            try_with_changes(section->sh_offset, section->sh_size, tarn::test::scaled(32));
        }
    }
}

TEST_F(damaged_files, section_headers_of_nonsense) {
    Elf64_Ehdr header;
    std::memcpy(&header, whole.data(), sizeof header);
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    try_with_changes(header.e_shoff, header.e_shnum * sizeof(Elf64_Shdr), tarn::test::scaled(48));
}

}  // namespace
