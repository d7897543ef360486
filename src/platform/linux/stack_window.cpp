#include "platform/linux/stack_window.hpp"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "base/units.hpp"
#include "platform/os.hpp"

extern "C" {
// NOLINTNEXTLINE(bugprone-reserved-identifier): glibc's name
extern void* __libc_stack_end __attribute__((weak));
}

namespace tarn::impl::platform {

namespace {

constexpr std::uintptr_t step_bytes = os_page_bytes_min;
constexpr std::uintptr_t own_bytes_max = 64 * MiB;  // asked for at once; deeper is not taken as own

/// What a thread learned. Atomic because a signal handler walks, too, in the midst of a walk.
struct known_stack {
    std::atomic<std::uintptr_t> low{0};  // [low, high) is the thread's own stack
    std::atomic<std::uintptr_t> high{0};
    std::atomic<std::uintptr_t> other_low{0};  // an sp here is not: something lies between
    std::atomic<std::uintptr_t> other_high{0};
};

// Not the model of the library: dynamic thread-local storage may be allocated when first used.
#if defined(TARN_TLS_MODEL_DYNAMIC)
thread_local constinit known_stack known;
#else
__attribute__((tls_model("initial-exec"))) thread_local constinit known_stack known;
#endif

bool is_main_thread() noexcept { return ::syscall(SYS_gettid) == static_cast<long>(::getpid()); }

/// Where the calling thread's stack ends, or a little above: what lies between is mapped.
std::uintptr_t own_stack_end() noexcept {
    if (!is_main_thread()) {
        return base::align_down(static_cast<std::uintptr_t>(::pthread_self()), sizeof(void*));
    }
    return &__libc_stack_end == nullptr ? 0 : base::address_of(__libc_stack_end);
}

/// Extends what is known down to `sp`, if all between is readable.
bool take_as_own(std::uintptr_t sp) noexcept {
    // relaxed, all: the thread's own. The fences keep a signal handler from seeing a new end with
    // an old start.
    std::uintptr_t high = known.high.load(std::memory_order_relaxed);
    bool const is_first = high == 0;
    if (is_first) {
        high = own_stack_end();
    }
    std::uintptr_t const goal = is_first ? high : known.low.load(std::memory_order_relaxed);
    if (sp >= goal || goal - sp > own_bytes_max) {
        return false;
    }
    std::uintptr_t const first = base::align_down(sp, step_bytes);
    for (std::uintptr_t page = first; page < goal; page += step_bytes) {
        if (!is_readable(page)) {
            known.other_low.store(first, std::memory_order_relaxed);
            known.other_high.store(page, std::memory_order_relaxed);
            return false;
        }
    }
    known.low.store(first, std::memory_order_relaxed);
    if (is_first) {
        std::atomic_signal_fence(std::memory_order_release);
        known.high.store(high, std::memory_order_relaxed);
    }
    return true;
}

}  // namespace

bool is_readable(std::uintptr_t at) noexcept {
    // The kernel reads the set before it looks at what to do with it, which no such number says.
    // (From Abseil's AddressIsReadable().)
    base::errno_keeper const kept;
    long const done = ::syscall(SYS_rt_sigprocmask, ~0L, at, nullptr, 8L);
    if (done == -1 && (errno == EINVAL || errno == EFAULT)) {
        return errno == EINVAL;
    }
    std::uintptr_t word = 0;
    return os::read_memory(base::pointer_to(at), reinterpret_cast<char*>(&word), sizeof word) ==
           sizeof word;
}

void stack_window::set(std::uintptr_t low, std::uintptr_t high) noexcept {
    bool const is_empty = high - low < sizeof(std::uintptr_t);
    low_ = is_empty ? 1 : low;
    bytes_ = is_empty ? 0 : high - low - sizeof(std::uintptr_t);
}

void stack_window::enter(std::uintptr_t top) noexcept {
    // A function that is about to return has taken registers off the stack, and its table may still
    // say where they lay. On x86-64 they are there still: signal handlers leave so much alone.
    constexpr std::uintptr_t red_zone_bytes = 128;
    std::uintptr_t const sp = base::align_down(top, sizeof top) - red_zone_bytes;
    // relaxed, all: the thread's own
    is_own_ = sp >= known.low.load(std::memory_order_relaxed) &&
              sp < known.high.load(std::memory_order_relaxed);
    if (!is_own_ && (sp < known.other_low.load(std::memory_order_relaxed) ||
                     sp >= known.other_high.load(std::memory_order_relaxed))) {
        is_own_ = take_as_own(sp);
    }
    if (is_own_) {
        set(sp, base::align_down(known.high.load(std::memory_order_relaxed), sizeof sp));
    } else {
        set(0, 0);
    }
}

bool stack_window::read_slow(std::uintptr_t at, std::uintptr_t& value) noexcept {
    if (is_own_ || !base::is_aligned(at, sizeof at)) {
        return false;
    }
    std::uintptr_t const page = base::align_down(at, step_bytes);
    if (!is_readable(at)) {
        return false;
    }
    bool const is_next = low_ != 1 && page == low_ + bytes_ + sizeof at;
    set(is_next ? low_ : page, page + step_bytes);
    value = load(at);
    return true;
}

}  // namespace tarn::impl::platform
