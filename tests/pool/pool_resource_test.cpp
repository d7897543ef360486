// pool_resource_test - the resource of pools passes the suite, and gives everything back.
#include "tarn/pool_resource.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "pool/counting_resource.hpp"
#include "pool/resource_suite.hpp"

namespace {

using tarn::pool_resource;
using tarn::test::counting_resource;

TEST(pool_resource, passes_the_suite) {
    counting_resource upstream;
    {
        pool_resource resource{&upstream};
        tarn::test::expect_blocks(resource, 3000);
        tarn::test::expect_edges(resource);
        tarn::test::expect_containers(resource);
        resource.trim();
        EXPECT_EQ(upstream.live_bytes() >> 20, 0U);
    }
    EXPECT_EQ(upstream.live(), 0U);
    EXPECT_EQ(upstream.wrong(), 0U);
}

TEST(pool_resource, gives_back_what_is_still_allocated) {
    counting_resource upstream;
    pool_resource resource{&upstream};
    for (std::size_t bytes = 0; bytes < 2000; bytes += 7) {
        static_cast<void>(resource.allocate(bytes, 64));
    }
    resource.release();
    EXPECT_EQ(upstream.live(), 0U);
    static_cast<void>(resource.allocate(10));
}

TEST(pool_resource, stays_whole_where_memory_is_out) {
    for (std::size_t nth = 1;; ++nth) {
        counting_resource upstream;
        upstream.fail_at(nth);
        {
            pool_resource resource{&upstream};
            for (std::size_t bytes = 1; bytes < 1500; bytes += 100) {
                try {
                    void* const block = resource.allocate(bytes);
                    resource.deallocate(block, bytes);
                } catch (std::bad_alloc const&) {
                    EXPECT_TRUE(upstream.has_failed());
                }
            }
        }
        EXPECT_EQ(upstream.live(), 0U);
        if (!upstream.has_failed()) {
            break;
        }
    }
}

TEST(pool_resource, reports_what_comes_back_with_another_size) {
    pool_resource resource;
    void* const block = resource.allocate(24);
    EXPECT_DEATH(resource.deallocate(block, 48), "pool_resource: deallocate of 0x");
    resource.deallocate(block, 24);
    EXPECT_DEATH(resource.deallocate(block, 24), "returned before");
}

}  // namespace
