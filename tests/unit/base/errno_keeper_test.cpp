#include "base/errno_keeper.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace {

using tarn::impl::base::errno_keeper;

TEST(errno_keeper, puts_errno_back) {
    errno = EDOM;
    {
        errno_keeper const kept;
        errno = ENOENT;
    }
    EXPECT_EQ(errno, EDOM);
}

}  // namespace
