#include "heap/guarded_page.hpp"

#include <gtest/gtest.h>

#include <cstddef>

#include "heap/process.hpp"
#include "heap_fixture.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using platform::os;
using tarn::test::heap_test;

class guarded_pages : public heap_test {
protected:
    static page* make(unsigned size_class) {
        std::size_t const slices = guarded_slices(size_class, sizing::class_slices_max(size_class));
        space::run const memory = process.space.acquire(slices);
        return memory.base == nullptr
                   ? nullptr
                   : make_page(memory, size_class, process.descriptors.allocate());
    }

    static void release(page& made) {
        space::run const memory = made.memory();
        pages.clear(memory.base, memory.slices);
        process.descriptors.deallocate(made);
        process.space.return_run(memory);
    }
};

TEST_F(guarded_pages, have_states_and_a_guard_behind_their_blocks) {
    ASSERT_TRUE(start_process());
    for (unsigned const size_class : {1U, 2U, 16U, 40U, 60U, sizing::class_count - 1}) {
        std::size_t const before = guarded_os_pages();
        page* const made = make(size_class);
        ASSERT_NE(made, nullptr);
        ASSERT_TRUE(add_states(*made));
        EXPECT_EQ(made->divisor, 0U) << "no fast path frees into it";
        auto const blocks = static_cast<std::size_t>(made->reserved.get());
        EXPECT_GT(blocks, 0U);
        EXPECT_LE(blocks, guarded_blocks(size_class));
        EXPECT_LE(blocks * made->block_bytes.get() + os::page_bytes(), made->bytes());
        if (made->has_guard) {
            EXPECT_EQ(guarded_os_pages(), before + 1);
        }
        remove_states(*made);
        EXPECT_EQ(guarded_os_pages(), before);
        made->start[made->bytes() - 1] = std::byte{1};  // can be written to again
        release(*made);
    }
}

TEST_F(guarded_pages, do_not_lose_many_blocks_to_the_guard) {
    for (unsigned size_class = 1; size_class < sizing::class_count; ++size_class) {
        for (std::size_t const wanted :
             {sizing::class_slices_min(size_class), sizing::class_slices_max(size_class)}) {
            std::size_t const slices = guarded_slices(size_class, wanted);
            std::size_t const room = slices * sizing::slice_bytes - os::page_bytes();
            EXPECT_GE(room / sizing::class_bytes(size_class),
                      sizing::page_blocks(size_class, wanted) * 2 / 3)
                << size_class << ' ' << wanted;
        }
    }
}

}  // namespace
