#include "platform/watching_tool.hpp"

// The runtimes' own names; null where there is none.
// NOLINTBEGIN(bugprone-reserved-identifier): the runtimes' names
extern "C" {
void __asan_init() __attribute__((weak));
void __hwasan_init() __attribute__((weak));
void __tsan_init() __attribute__((weak));
void __msan_init() __attribute__((weak));
void __lsan_init() __attribute__((weak));
int __sanitizer_get_ownership(void const volatile* ptr) __attribute__((weak));
std::size_t __sanitizer_get_allocated_size(void const volatile* ptr) __attribute__((weak));
}

// NOLINTEND(bugprone-reserved-identifier): the runtimes' names

namespace tarn::impl::platform {

namespace {

/// What Valgrind answers to its request RUNNING_ON_VALGRIND: how many Valgrinds there are. A
/// processor executes rotations that cancel each other.
unsigned long count_valgrinds() noexcept {
    constexpr unsigned long running_on_valgrind = 0x1001;
    [[maybe_unused]] unsigned long const request[6] = {running_on_valgrind, 0, 0, 0, 0, 0};
    unsigned long answer = 0;
#if defined(__x86_64__)
    __asm__ volatile(
        "rolq $3, %%rdi\n\t"
        "rolq $13, %%rdi\n\t"
        "rolq $61, %%rdi\n\t"
        "rolq $51, %%rdi\n\t"
        "xchgq %%rbx, %%rbx"
        : "+d"(answer)
        : "a"(&request[0])
        : "cc", "memory");
#elif defined(__aarch64__)
    register unsigned long told __asm__("x3") = answer;
    register unsigned long const* asked __asm__("x4") = &request[0];
    __asm__ volatile(
        "ror x12, x12, #3\n\t"
        "ror x12, x12, #13\n\t"
        "ror x12, x12, #51\n\t"
        "ror x12, x12, #61\n\t"
        "orr x10, x10, x10"
        : "+r"(told)
        : "r"(asked)
        : "cc", "memory");
    answer = told;
#endif
    return answer;
}

}  // namespace

watching_tool find_watching_tool() noexcept {
    if (&__asan_init != nullptr) {
        return watching_tool::address_sanitizer;
    }
    if (&__hwasan_init != nullptr) {
        return watching_tool::hardware_address_sanitizer;
    }
    if (&__tsan_init != nullptr) {
        return watching_tool::thread_sanitizer;
    }
    if (&__msan_init != nullptr) {
        return watching_tool::memory_sanitizer;
    }
    if (&__lsan_init != nullptr) {
        return watching_tool::leak_sanitizer;
    }
    return count_valgrinds() != 0 ? watching_tool::valgrind : watching_tool::none;
}

char const* name_of(watching_tool tool) noexcept {
    switch (tool) {
        case watching_tool::address_sanitizer:
            return "AddressSanitizer";
        case watching_tool::hardware_address_sanitizer:
            return "HWAddressSanitizer";
        case watching_tool::thread_sanitizer:
            return "ThreadSanitizer";
        case watching_tool::memory_sanitizer:
            return "MemorySanitizer";
        case watching_tool::leak_sanitizer:
            return "LeakSanitizer";
        case watching_tool::valgrind:
            return "Valgrind";
        case watching_tool::none:
            break;
    }
    return "nothing";
}

watched_block ask_sanitizer(void const* ptr) noexcept {
    bool const is_known = &__sanitizer_get_ownership != nullptr &&
                          &__sanitizer_get_allocated_size != nullptr &&
                          __sanitizer_get_ownership(ptr) != 0;
    return is_known ? watched_block{.is_block = true, .bytes = __sanitizer_get_allocated_size(ptr)}
                    : watched_block{};
}

}  // namespace tarn::impl::platform
