// limits_test - what is refused by name, and that an error leaves everything as it was.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "tarn/snapshot.hpp"

#include "snapshot/paged_model.hpp"
#include "support/build.hpp"
#include "support/process.hpp"

namespace {

using tarn::test::generations;
using tarn::test::paged_model;

constexpr unsigned child_seconds = 60;

std::size_t page_bytes() { return tarn::detail::os_page_bytes(); }

/// What a system_error says; empty: none came.
std::string error_of(std::function<void()> const& act) {
    try {
        act();
    } catch (std::system_error const& error) {
        return error.what();
    }
    return {};
}

bool says(std::string const& text, char const* part) {
    return text.find(part) != std::string::npos;
}

/// Lowers a limit of this process for a while.
class lowered_limit {
public:
    lowered_limit(__rlimit_resource which, rlim_t to) : which_{which} {
        ::getrlimit(which, &before_);
        rlimit const now{to, before_.rlim_max};
        ::setrlimit(which, &now);
    }

    lowered_limit(lowered_limit const&) = delete;
    lowered_limit& operator=(lowered_limit const&) = delete;

    ~lowered_limit() { ::setrlimit(which_, &before_); }

private:
    __rlimit_resource which_;
    rlimit before_{};
};

tarn::snapshot_options of_pages(std::size_t pages, std::size_t history) {
    tarn::snapshot_options options;
    options.capacity_bytes = pages * page_bytes();
    options.history_bytes = history * page_bytes();
    return options;
}

TEST(snapshot_limits, names_a_descriptor_that_is_closed_or_something_else) {
    EXPECT_TRUE(says(error_of([] { static_cast<void>(tarn::snapshot::adopt(-1)); }),
                     "the descriptor is closed"));
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    EXPECT_TRUE(says(error_of([&] { static_cast<void>(tarn::snapshot::adopt(ends[0])); }),
                     "the descriptor is closed, or cannot be mapped"));
    ::close(ends[1]);
    EXPECT_TRUE(says(error_of([&] { static_cast<void>(tarn::snapshot::adopt(ends[1])); }),
                     "the descriptor is closed"));
    EXPECT_EQ(::close(ends[0]), 0) << "what was refused stays the caller's";

    tarn::snapshot_memory memory;
    paged_model model{memory, 4};
    model.write(1);
    tarn::snapshot frozen = memory.take();
    std::string const path = "/proc/self/fd/" + std::to_string(frozen.descriptor());
    int const opened_anew = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(opened_anew, 0);
    EXPECT_TRUE(says(error_of([&] { static_cast<void>(tarn::snapshot::adopt(opened_anew)); }),
                     "leads to no snapshot; it must be passed on itself"));
    ::close(opened_anew);

    int const released = frozen.release();
    EXPECT_TRUE(says(error_of([&] { static_cast<void>(frozen.map()); }), "closed"));
    tarn::snapshot const again = tarn::snapshot::adopt(released);
    EXPECT_TRUE(shows(again.map(), model, model.now()));
}

/// Whatever stands in a file that says it is a snapshot, nothing leads outside.
TEST(snapshot_limits, refuses_lists_that_lead_outside) {
    int const file = ::memfd_create("forged", MFD_CLOEXEC);
    ASSERT_GE(file, 0);
    ASSERT_EQ(::ftruncate(file, static_cast<off_t>(8 * page_bytes())), 0);
    auto const is_refused = [&](tarn::detail::snapshot_head head,
                                tarn::detail::snapshot_piece piece) {
        head.page_bytes = static_cast<std::uint32_t>(page_bytes());
        head.pieces = 1;
        if (::pwrite(file, &head, sizeof head, 0) != sizeof head ||
            ::pwrite(file, &piece, sizeof piece, sizeof head) != sizeof piece) {
            return false;
        }
        return says(error_of([&] { tarn::detail::snapshot_list const list{file}; }),
                    "leads to no snapshot");
    };
    tarn::detail::snapshot_head good;
    good.pages = 4;
    EXPECT_FALSE(is_refused(good, {1, 5, 2}));
    EXPECT_TRUE(is_refused(good, {1, 5, 4})) << "behind the file's end";
    EXPECT_TRUE(is_refused(good, {3, 5, 2})) << "behind the region's end";
    EXPECT_TRUE(is_refused(good, {3, 0xffffffff, 1}));
    EXPECT_TRUE(is_refused(good, {0xffffffff, 5, 2}));
    tarn::detail::snapshot_head bad = good;
    bad.pages = 9;
    EXPECT_TRUE(is_refused(bad, {1, 5, 2})) << "more pages than the file has";
    bad = good;
    bad.magic = 1;
    EXPECT_TRUE(is_refused(bad, {1, 5, 2}));
    bad = good;
    bad.next = 7;  // where no head is
    EXPECT_TRUE(is_refused(bad, {1, 5, 2}));
    bad = good;
    bad.place = 1;
    EXPECT_TRUE(is_refused(bad, {1, 5, 2}));
    ::close(file);
}

TEST(snapshot_limits, names_an_address_that_is_in_use) {
    tarn::snapshot_memory memory;
    paged_model model{memory, 4};
    model.write(1);
    tarn::snapshot const frozen = memory.take();
    EXPECT_TRUE(says(error_of([&] { static_cast<void>(frozen.map_in_place()); }),
                     "the address range is in use"));
    tarn::snapshot_options taken;
    taken.address = const_cast<std::byte*>(model.block() - (model.block() - frozen.map().data()));
    tarn::snapshot_view const view = frozen.map();
    taken.address = const_cast<std::byte*>(view.data());
    EXPECT_TRUE(says(error_of([&] { tarn::snapshot_memory const other{taken}; }),
                     "the address range is in use"));
}

TEST(snapshot_limits, lies_where_it_is_told_to) {
    tarn::snapshot_options options = of_pages(64, 64);
    void* address = nullptr;
    {
        auto const free = tarn::detail::map_pages(nullptr, 64 * page_bytes(), PROT_NONE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        address = free.start();
    }
    options.address = address;
    tarn::snapshot_memory memory{options};
    EXPECT_TRUE(memory.owns(address));
}

TEST(snapshot_limits, refuses_sizes_that_make_no_sense) {
    EXPECT_THROW(tarn::snapshot_memory{of_pages(0, 1)}, std::invalid_argument);
    EXPECT_THROW(tarn::snapshot_memory{of_pages(1, 0)}, std::invalid_argument);
    EXPECT_THROW(tarn::snapshot_memory{of_pages(std::size_t{1} << 31, 1)}, std::invalid_argument);
}

TEST(snapshot_limits, has_so_much_capacity) {
    tarn::snapshot_memory memory{of_pages(32, 32)};
    EXPECT_THROW(static_cast<void>(memory.allocate(33 * page_bytes())), std::bad_alloc);
    void* const block = memory.allocate(30 * page_bytes());
    memory.deallocate(block, 30 * page_bytes());
}

TEST(snapshot_limits, keeps_so_much_history) {
    tarn::snapshot_memory memory{of_pages(64, 20)};
    paged_model model{memory, 40};
    for (std::size_t page = 0; page < 40; ++page) {
        model.write(page);
    }
    std::optional<tarn::snapshot> first{memory.take()};
    generations const then = model.now();
    for (std::size_t page = 0; page < 30; ++page) {
        model.write(page);
    }
    EXPECT_THROW(static_cast<void>(memory.take()), std::bad_alloc);
    EXPECT_TRUE(shows(first->map(), model, then));
    EXPECT_TRUE(model.is_right());
    model.write(35);
    first.reset();
    tarn::snapshot const second = memory.take();
    EXPECT_TRUE(shows(second.map(), model, model.now()));
    EXPECT_TRUE(model.is_right());
}

// UBSan reads an object's type by way of a pipe, and takes a lack of descriptors for a wrong type.
constexpr char const* sanitizer_needs_them = "the sanitizer needs descriptors of its own";

/// An error after the pages were found: the next snapshot has them all.
TEST(snapshot_limits, loses_nothing_by_an_error) {
    if (tarn::test::under_asan) {
        GTEST_SKIP() << sanitizer_needs_them;
    }
    for (auto const tracking : {tarn::snapshot_tracking::best, tarn::snapshot_tracking::copies}) {
        tarn::snapshot_options options = of_pages(128, 128);
        options.tracking = tracking;
        tarn::snapshot_memory memory{options};
        paged_model model{memory, 100};
        for (std::size_t page = 0; page < 100; page += 2) {
            model.write(page);
        }
        {
            lowered_limit const none{RLIMIT_NOFILE, 3};
            EXPECT_TRUE(says(error_of([&] { static_cast<void>(memory.take()); }), "RLIMIT_NOFILE"));
        }
        model.write(10);
        tarn::snapshot const first = memory.take();
        generations const then = model.now();
        EXPECT_TRUE(shows(first.map(), model, then));
        for (std::size_t page = 0; page < 100; page += 3) {
            model.write(page);
        }
        {
            lowered_limit const none{RLIMIT_NOFILE, 3};
            EXPECT_TRUE(says(error_of([&] { static_cast<void>(memory.take()); }), "RLIMIT_NOFILE"));
            model.write(12);
            EXPECT_TRUE(says(error_of([&] { static_cast<void>(memory.take()); }), "RLIMIT_NOFILE"));
        }
        model.write(13);
        tarn::snapshot const second = memory.take();
        EXPECT_TRUE(shows(first.map(), model, then));
        EXPECT_TRUE(shows(second.map(), model, model.now()));
        memory.trim();
        EXPECT_TRUE(model.is_right());
        EXPECT_TRUE(shows(first.map(), model, then));
    }
}

TEST(snapshot_limits, names_a_file_that_would_be_too_long) {
    tarn::snapshot_memory memory{of_pages(64, 256)};
    paged_model model{memory, 32};
    for (std::size_t page = 0; page < 32; ++page) {
        model.write(page);
    }
    tarn::snapshot const first = memory.take();
    generations const then = model.now();
    for (std::size_t page = 0; page < 32; ++page) {
        model.write(page);
    }
    {
        lowered_limit const little{RLIMIT_FSIZE, 64 * page_bytes()};
        EXPECT_TRUE(says(error_of([&] { static_cast<void>(memory.take()); }), "RLIMIT_FSIZE"));
        EXPECT_TRUE(says(error_of([] { tarn::snapshot_memory const other; }), "RLIMIT_FSIZE"));
    }
    tarn::snapshot const second = memory.take();
    EXPECT_TRUE(shows(first.map(), model, then));
    EXPECT_TRUE(shows(second.map(), model, model.now()));
}

TEST(snapshot_limits, names_a_lack_of_descriptors_at_the_start) {
    if (tarn::test::under_asan) {
        GTEST_SKIP() << sanitizer_needs_them;
    }
    lowered_limit const none{RLIMIT_NOFILE, 3};
    EXPECT_TRUE(says(error_of([] { tarn::snapshot_memory const memory; }), "memfd_create"));
}

/// In a child, which then has all the mappings that the system grants.
TEST(snapshot_limits, names_a_lack_of_mappings) {
    if (tarn::test::is_slow) {
        GTEST_SKIP() << "sanitizers and emulators need mappings of their own";
    }
    tarn::snapshot_memory memory{of_pages(256, 256)};
    paged_model model{memory, 128};
    for (std::size_t page = 0; page < 128; ++page) {
        model.write(page);
    }
    tarn::snapshot const first = memory.take();
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        // Every other page readable: a mapping for each page.
        constexpr std::size_t pages = std::size_t{1} << 20;
        auto* const field =
            static_cast<std::byte*>(::mmap(nullptr, pages * page_bytes(), PROT_NONE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        std::size_t at = 1;
        while (at < pages && ::mprotect(field + at * page_bytes(), page_bytes(), PROT_READ) == 0) {
            at += 2;
        }
        if (at >= pages) {
            return 77;  // no limit worth the name
        }
        for (int i = 0; i < 8; ++i) {  // what splitting has left
            static_cast<void>(::mmap(nullptr, page_bytes(), i % 2 == 0 ? PROT_READ : PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        }
        std::string const error = error_of([&] { static_cast<void>(first.map()); });
        bool const named = says(error, "vm.max_map_count");
        ::munmap(field, pages * page_bytes());
        return named && shows(first.map(), model, model.now()) ? 0 : 1;
    });
    EXPECT_TRUE(status == 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 77)) << status;
}

}  // namespace
