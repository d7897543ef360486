// memory_resource_test - std::pmr resources pass one suite, and live as long as any object.
#include "tarn/memory_resource.hpp"

#include <gtest/gtest.h>

#include "pool/resource_suite.hpp"

namespace {

TEST(malloc_resource, passes_the_suite) {
    std::pmr::memory_resource& resource = *tarn::malloc_resource();
    tarn::test::expect_blocks(resource, std::size_t{300} * 1024);
    tarn::test::expect_edges(resource);
    tarn::test::expect_containers(resource);
}

/// Uses it before main() begins and after it has ended.
struct early_and_late {
    early_and_late() { numbers.assign(1000, 1); }

    ~early_and_late() { numbers.assign(100'000, 2); }

    std::pmr::vector<int> numbers{tarn::malloc_resource()};
};

early_and_late const of_the_whole_program;

TEST(malloc_resource, serves_objects_with_static_storage) {
    EXPECT_EQ(of_the_whole_program.numbers.size(), 1000U);
    EXPECT_NE(tarn_malloc_usable_size(of_the_whole_program.numbers.data()), 0U);
}

}  // namespace
