#include "platform/code_place.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

namespace {

using namespace tarn::impl::platform;

int some_function() { return 1; }

void const* address_of(int (*function)()) { return reinterpret_cast<void const*>(function); }

TEST(code_place, of_the_program) {
    code_place const place = place_of(address_of(&some_function));
    EXPECT_EQ(place.module(), std::filesystem::read_symlink("/proc/self/exe").string());
    Dl_info about{};
    ASSERT_NE(dladdr(address_of(&some_function), &about), 0);
    // A program that lies where its file says counts from 0.
    auto const base = reinterpret_cast<std::uintptr_t>(about.dli_fbase);
    auto const address = reinterpret_cast<std::uintptr_t>(&some_function);
    EXPECT_TRUE(place.offset == address - base || place.offset == address);
}

TEST(code_place, of_a_library) {
    void* const function = dlsym(RTLD_NEXT, "qsort");
    Dl_info about{};
    ASSERT_NE(dladdr(function, &about), 0);
    code_place const place = place_of(function);
    EXPECT_EQ(place.module(), about.dli_fname);
    EXPECT_EQ(place.offset, reinterpret_cast<std::uintptr_t>(function) -
                                reinterpret_cast<std::uintptr_t>(about.dli_fbase));
    EXPECT_EQ(place.build_id().size() % 2, 0U);
    EXPECT_EQ(place.build_id().find_first_not_of("0123456789abcdef"), std::string_view::npos);
}

TEST(code_place, of_no_file) {
    void* const page =
        ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page, MAP_FAILED);
    int local = 0;
    for (void const* const odd :
         {static_cast<void const*>(nullptr), reinterpret_cast<void const*>(1),
          reinterpret_cast<void const*>(~std::uintptr_t{0}),
          reinterpret_cast<void const*>(std::uintptr_t{1} << 63), static_cast<void const*>(page),
          static_cast<void const*>(&local)}) {
        code_place const place = place_of(odd);
        EXPECT_EQ(place.module(), "") << odd;
        EXPECT_EQ(place.build_id(), "") << odd;
    }
    ::munmap(page, 4096);
}

TEST(code_place, of_what_the_kernel_brings) {
    unsigned long const header = ::getauxval(AT_SYSINFO_EHDR);
    if (header != 0) {
        code_place const place = place_of(reinterpret_cast<void const*>(header + 0x500));
        EXPECT_EQ(place.module().find(' '), std::string_view::npos) << place.module();
    }
}

TEST(code_place, keeps_errno) {
    errno = 4711;
    static_cast<void>(place_of(nullptr));
    static_cast<void>(place_of(address_of(&some_function)));
    EXPECT_EQ(errno, 4711);
}

}  // namespace
