// replaced_forms - a program that replaces operator new(size_t) and operator delete(void*) alone,
// as the standard says suffices: every other plain form must call these two.
//
// Status  0 all held; else each failure is a line on stderr.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "check.h"

namespace {

constexpr std::size_t header_bytes = 32;

int made = 0;
int given_back = 0;

struct sized {
    long numbers[4];
};

}  // namespace

void* operator new(std::size_t bytes) {
    if (bytes == SIZE_MAX / 4) {
        throw std::bad_alloc{};
    }
    auto* const start = static_cast<std::byte*>(std::malloc(bytes + header_bytes));
    if (start == nullptr) {
        throw std::bad_alloc{};
    }
    ++made;
    return start + header_bytes;
}

void operator delete(void* block) noexcept {
    if (block != nullptr) {
        ++given_back;
        std::free(static_cast<std::byte*>(block) - header_bytes);
    }
}

int main() {
    void* block = opaque(::operator new(10, std::nothrow));
    ::operator delete(block, std::nothrow);
    block = opaque(::operator new[](10));
    ::operator delete[](block);
    block = opaque(::operator new[](10, std::nothrow));
    ::operator delete[](block, std::nothrow);
    block = opaque(::operator new(10));
    ::operator delete (block, std::size_t{10});
    block = opaque(::operator new[](10));
    ::operator delete[](block, std::size_t{10});
    delete static_cast<sized*>(opaque(new sized));
    TARN_EXPECT(made == 6);
    TARN_EXPECT(given_back == 6);
    TARN_EXPECT(opaque(::operator new(SIZE_MAX / 4, std::nothrow)) == nullptr);
    TARN_EXPECT(opaque(::operator new[](SIZE_MAX / 4, std::nothrow)) == nullptr);
    return check_result();
}
