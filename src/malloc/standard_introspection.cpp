// glibc's introspection, for the libraries that replace malloc. What each tells and honours:
// docs/introspection.md.

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <limits>

#include "base/text.hpp"

#include "tarn/tarn.h"

#include "platform/os.hpp"
#include "heap/process.hpp"
#include "heap/thread_heap.hpp"
#include "control/introspection.hpp"
#include "malloc/entry.hpp"
#include "malloc/step_aside.hpp"

using tarn::impl::heap::this_thread;
namespace aside = tarn::impl::aside;
namespace control = tarn::impl::control;
namespace heap = tarn::impl::heap;

namespace {

constexpr int fast_bin_bytes_max = 80 * sizeof(std::size_t) / 4;  // as glibc has it

using introspection_text = tarn::impl::base::text_buffer<control::introspection_text_bytes>;

struct mallinfo2 figures_now() noexcept {
    control::glibc_figures const now = control::glibc_view(control::collect_statistics());

    struct mallinfo2 result {};

    result.arena = now.arena_bytes;
    result.ordblks = now.free_blocks;
    result.hblks = now.huge_blocks;
    result.hblkhd = now.huge_bytes;
    result.uordblks = now.in_use_bytes;
    result.fordblks = now.free_bytes;
    result.keepcost = now.returnable_bytes;
    return result;
}

/// The old structure has int fields. glibc lets them wrap; the highest number says more.
int narrowed(std::size_t value) noexcept {
    constexpr std::size_t most = std::numeric_limits<int>::max();
    return static_cast<int>(std::min(value, most));
}

/// Whom to ask instead, where Tarn has stepped aside for one that has the function.
template <class Function>
aside::next_in_line const* next_with(Function aside::next_in_line::*function) noexcept {
    aside::next_in_line const* const next = aside::next();
    return next == nullptr || next->*function == nullptr ? nullptr : next;
}

}  // namespace

// NOLINTBEGIN(bugprone-exception-escape): nothing here throws
extern "C" {

TARN_API struct mallinfo2 mallinfo2() noexcept {
    if (aside::next_in_line const* const next = next_with(&aside::next_in_line::mallinfo2)) {
        return next->mallinfo2();
    }
    return figures_now();
}

TARN_API struct mallinfo mallinfo() noexcept {
    if (aside::next_in_line const* const next = next_with(&aside::next_in_line::mallinfo)) {
        return next->mallinfo();
    }
    struct mallinfo2 const now = figures_now();

    struct mallinfo result {};

    result.arena = narrowed(now.arena);
    result.ordblks = narrowed(now.ordblks);
    result.hblks = narrowed(now.hblks);
    result.hblkhd = narrowed(now.hblkhd);
    result.uordblks = narrowed(now.uordblks);
    result.fordblks = narrowed(now.fordblks);
    result.keepcost = narrowed(now.keepcost);
    return result;
}

TARN_API int malloc_info(int options, std::FILE* stream) noexcept {
    if (aside::next_in_line const* const next = next_with(&aside::next_in_line::malloc_info)) {
        return next->malloc_info(options, stream);
    }
    if (options != 0) {
        errno = EINVAL;  // the manual's way; the returned code is glibc's
        return EINVAL;
    }
    introspection_text text;
    control::describe_as_malloc_info(control::collect_statistics(), text);
    std::size_t const bytes = text.view().size();
    return std::fwrite(text.view().data(), 1, bytes, stream) == bytes ? 0 : -1;
}

TARN_API void malloc_stats() noexcept {
    if (aside::next_in_line const* const next = next_with(&aside::next_in_line::malloc_stats)) {
        return next->malloc_stats();
    }
    introspection_text text;
    control::describe_as_malloc_stats(control::collect_statistics(), text);
    tarn::impl::platform::os::write_all(STDERR_FILENO, text.view().data(), text.view().size());
}

TARN_API int malloc_trim(std::size_t pad) noexcept {
    if (aside::next_in_line const* const next = next_with(&aside::next_in_line::malloc_trim)) {
        return next->malloc_trim(pad);
    }
    return heap::trim(this_thread, heap::reclaim_scope::process, TARN_CALLER) != 0 ? 1 : 0;
}

TARN_API int mallopt(int parameter, int value) noexcept {
    if (aside::next_in_line const* const next = next_with(&aside::next_in_line::mallopt)) {
        return next->mallopt(parameter, value);
    }
    switch (parameter) {
        case M_TRIM_THRESHOLD:
            // Negative: never trim.
            heap::process.space.set_keep_bytes(value < 0 ? ~std::size_t{0}
                                                         : static_cast<std::size_t>(value));
            return 1;
        case M_MXFAST:
            return value >= 0 && value <= fast_bin_bytes_max ? 1 : 0;
        case M_MMAP_THRESHOLD:
        case M_MMAP_MAX:
        case M_TOP_PAD:
        case M_CHECK_ACTION:
        case M_PERTURB:
        case M_ARENA_TEST:
        case M_ARENA_MAX:
            return 1;  // without effect: there is nothing of the kind to set
        default:
            return 0;
    }
}

}  // extern "C"
// NOLINTEND(bugprone-exception-escape)
