#include "tarn/shm/error.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace {

using tarn::shm::errc;
using tarn::shm::error;
using tarn::shm::result;

TEST(ShmResult, ValuesAreMovedInAndOut) {
    result<std::unique_ptr<int>> made{std::make_unique<int>(7)};
    ASSERT_TRUE(made.has_value());
    EXPECT_EQ(**made, 7);
    result<std::unique_ptr<int>> moved{std::move(made)};
    std::unique_ptr<int> const out = std::move(moved).value();
    EXPECT_EQ(*out, 7);
}

TEST(ShmResult, ValueOfAnErrorThrowsIt) {
    result<int> const refused{error{errc::denied, "segment camera: its owner is another user"}};
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.value_or(3), 3);
    try {
        static_cast<void>(refused.value());
        FAIL() << "it did not throw";
    } catch (tarn::shm::exception const& thrown) {
        EXPECT_EQ(thrown.why().code, errc::denied);
        EXPECT_EQ(thrown.code(), errc::denied);
        EXPECT_STREQ(thrown.code().category().name(), "tarn::shm");
        EXPECT_NE(std::string{thrown.what()}.find("its owner is another user"), std::string::npos);
    }
}

TEST(ShmResult, AssignmentChangesBetweenValueAndError) {
    result<std::string> one{std::string(100, 'x')};
    result<std::string> const two{errc::stale};
    one = two;
    ASSERT_FALSE(one);
    EXPECT_EQ(one.error().code, errc::stale);
    one = result<std::string>{std::string(50, 'y')};
    EXPECT_EQ(one->size(), 50U);
    EXPECT_EQ(one.value_or("none"), std::string(50, 'y'));
}

TEST(ShmResult, OfNothingIsSuccessOrNot) {
    result<void> const good;
    EXPECT_TRUE(good);
    good.value();
    result<void> const bad{errc::full};
    EXPECT_THROW(bad.value(), tarn::shm::exception);
}

TEST(ShmError, EveryCodeHasItsText) {
    std::string const unknown = tarn_shm_error_text(-1);
    for (int code = TARN_SHM_INVALID; code <= TARN_SHM_SYSTEM; ++code) {
        error const of{static_cast<errc>(code)};
        EXPECT_NE(of.text(), unknown) << code;
        EXPECT_EQ(make_error_code(of.code).message(), of.text());
    }
}

TEST(ShmError, LongTextIsCutAndCopiesKeepIt) {
    error const of{errc::system, std::string(1000, 'x')};
    error copy;
    copy = of;
    EXPECT_STREQ(copy.text(), of.text());
    EXPECT_EQ(std::string{copy.text()}.size(), sizeof(tarn_shm_failure::text) - 1);
}

}  // namespace
