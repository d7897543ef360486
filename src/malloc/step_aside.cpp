#include "malloc/step_aside.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "base/text.hpp"
#include "base/units.hpp"
#include "platform/watching_tool.hpp"
#include "sizing/size_class.hpp"
#include "heap/process.hpp"
#include "control/report.hpp"

// Null in a static program, where nothing can be next in line.
extern "C" void* dlsym(void* where, char const* name) noexcept __attribute__((weak));

namespace tarn::impl::aside {

namespace {

using heap::family;
using heap::operation;
using heap::operation_kind;

enum class search : std::uint8_t { not_begun, running, found, failed };

constinit next_in_line line;
constinit std::atomic<search> state{search::not_begun};

template <class Function>
void find_next(Function*& function, char const* name) noexcept {
    function = reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

/// A sanitizer's runtime may lie in the program, and so before us in the line; it has this second
/// name for what replaces the C library's.
template <class Function>
void find_c(Function*& function, char const* name) noexcept {
    base::text_buffer<64> second;
    second << "__interceptor_" << name << '\0';
    function = reinterpret_cast<Function*>(::dlsym(RTLD_DEFAULT, second.view().data()));
    if (function == nullptr) {
        find_next(function, name);
    }
}

void find_new(new_functions& of, bool is_array) noexcept {
    new_functions got;
    find_next(got.make, is_array ? "_Znam" : "_Znwm");
    find_next(got.make_aligned, is_array ? "_ZnamSt11align_val_t" : "_ZnwmSt11align_val_t");
    find_next(got.make_quietly, is_array ? "_ZnamRKSt9nothrow_t" : "_ZnwmRKSt9nothrow_t");
    find_next(got.make_aligned_quietly, is_array ? "_ZnamSt11align_val_tRKSt9nothrow_t"
                                                 : "_ZnwmSt11align_val_tRKSt9nothrow_t");
    find_next(got.end, is_array ? "_ZdaPv" : "_ZdlPv");
    find_next(got.end_sized, is_array ? "_ZdaPvm" : "_ZdlPvm");
    find_next(got.end_aligned, is_array ? "_ZdaPvSt11align_val_t" : "_ZdlPvSt11align_val_t");
    find_next(got.end_sized_aligned,
              is_array ? "_ZdaPvmSt11align_val_t" : "_ZdlPvmSt11align_val_t");
    bool const makes = got.make != nullptr && got.make_aligned != nullptr &&
                       got.make_quietly != nullptr && got.make_aligned_quietly != nullptr;
    bool const ends = got.end != nullptr && got.end_sized != nullptr &&
                      got.end_aligned != nullptr && got.end_sized_aligned != nullptr;
    if (makes && ends) {
        of = got;
    }
}

/// What the search itself allocates: dlsym does, for the text of an error. Not from the heap, whose
/// start calls functions of libc that a runtime stands before, and is not ready for. Not reused.
class early_store {
public:
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
        std::size_t const room = std::size(bytes_);
        if (bytes > room || alignment > room) {
            return nullptr;
        }
        // The block's size lies before it, and before that what alignment leaves.
        std::size_t const taken =
            base::align_up(bytes, sizing::quantum) + sizing::quantum + alignment;
        std::size_t const first = used_.fetch_add(taken, std::memory_order_relaxed);
        if (first > room || taken > room - first) {
            return nullptr;
        }
        std::byte* const from = &bytes_[first] + sizing::quantum;
        std::byte* const block =
            from + (base::align_up(base::address_of(from), alignment) - base::address_of(from));
        std::memcpy(block - sizing::quantum, &bytes, sizeof bytes);
        return block;
    }

    [[nodiscard]] bool holds(void const* block) const noexcept {
        return base::address_of(block) - base::address_of(&bytes_[0]) < std::size(bytes_);
    }

    [[nodiscard]] static std::size_t bytes_of(void const* block) noexcept {
        std::size_t bytes = 0;
        // NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): a block that holds() knows
        std::memcpy(&bytes, static_cast<std::byte const*>(block) - sizing::quantum, sizeof bytes);
        return bytes;
    }

private:
    alignas(sizing::quantum) std::byte bytes_[8 * KiB]{};
    std::atomic<std::size_t> used_{0};
};

constinit early_store early;

void deallocate(void* block) {
    if (!early.holds(block)) {
        line.deallocate(block);
    }
}

void* reallocate(void* block, std::size_t bytes) {
    if (!early.holds(block)) [[likely]] {
        return line.reallocate(block, bytes);
    }
    void* const moved = line.direct.allocate(bytes);
    return moved == nullptr
               ? nullptr
               : std::memcpy(moved, block, std::min(bytes, early_store::bytes_of(block)));
}

/// operator delete with all that is known of the block.
void end_object(new_functions const& of, void* block, std::size_t bytes, std::size_t alignment) {
    auto const aligned = static_cast<std::align_val_t>(alignment);
    if (alignment == 0) {
        return bytes == 0 ? of.end(block) : of.end_sized(block, bytes);
    }
    return bytes == 0 ? of.end_aligned(block, aligned)
                      : of.end_sized_aligned(block, bytes, aligned);
}

void deallocate_told(void* block, std::size_t bytes, std::size_t alignment, family by) {
    if (by == family::malloc || line.of(by).end == nullptr || early.holds(block)) {
        return deallocate(block);
    }
    return end_object(line.of(by), block, bytes, alignment);
}

/// malloc_usable_size is a tool's own if it knows how little was asked for; it then says 0 of what
/// is no block. Asked when it is needed: a tool may count allocations.
bool tells_exact_sizes() noexcept {
    enum : std::uint8_t { unknown, no, yes };

    static constinit std::atomic<std::uint8_t> told{unknown};
    if (told.load(std::memory_order_relaxed) == unknown) {
        constexpr std::size_t odd_bytes = 37;
        void* const block = line.direct.allocate(odd_bytes);
        bool const is_exact = block != nullptr && line.malloc_usable_size(block) == odd_bytes;
        line.direct.deallocate(block);
        told.store(is_exact ? yes : no, std::memory_order_relaxed);
    }
    return told.load(std::memory_order_relaxed) == yes;
}

bool find_line() noexcept {
    if (&::dlsym == nullptr) {
        return false;
    }
    heap::direct_answers& direct = line.direct;
    find_c(direct.allocate, "malloc");
    find_c(direct.allocate_zeroed, "calloc");
    find_c(direct.allocate_aligned, "memalign");
    find_c(line.reallocate, "realloc");
    find_c(line.deallocate, "free");
    direct.reallocate = &reallocate;
    direct.deallocate = &deallocate;
    direct.deallocate_told = &deallocate_told;
    find_c(line.posix_memalign, "posix_memalign");
    find_c(line.malloc_usable_size, "malloc_usable_size");
    if (direct.allocate == nullptr || direct.allocate_zeroed == nullptr ||
        direct.allocate_aligned == nullptr || line.reallocate == nullptr ||
        line.deallocate == nullptr || line.posix_memalign == nullptr ||
        line.malloc_usable_size == nullptr) {
        return false;
    }
    find_c(line.mallinfo, "mallinfo");
    find_c(line.mallinfo2, "mallinfo2");
    find_c(line.malloc_info, "malloc_info");
    find_c(line.malloc_stats, "malloc_stats");
    find_c(line.malloc_trim, "malloc_trim");
    find_c(line.mallopt, "mallopt");
    find_new(line.one, false);
    find_new(line.array, true);
    return true;
}

/// Null: there is no line, or it is being looked for.
next_in_line const* find() noexcept {
    // acquire: pairs with the release below, `line` is complete
    search now = state.load(std::memory_order_acquire);
    if (now == search::not_begun &&
        state.compare_exchange_strong(now, search::running, std::memory_order_relaxed)) {
        base::errno_keeper const keeper;
        now = find_line() ? search::found : search::failed;
        state.store(now, std::memory_order_release);
    }
    return now == search::found ? &line : nullptr;
}

heap::direct_answers const* find_direct() noexcept {
    next_in_line const* const to = find();
    return to == nullptr ? nullptr : &to->direct;
}

void* make_object(new_functions const& by, operation const& asked) noexcept {
    return asked.alignment == 0
               ? by.make_quietly(asked.bytes, quietly)
               : by.make_aligned_quietly(asked.bytes,
                                         static_cast<std::align_val_t>(asked.alignment), quietly);
}

/// The answer while the line is looked for, by this thread or another.
void* answer_early(operation const& asked) noexcept {
    switch (asked.kind) {
        case operation_kind::allocate:
        case operation_kind::allocate_zeroed:
            return early.allocate(asked.bytes, sizing::quantum);
        case operation_kind::allocate_aligned:
            return early.allocate(asked.bytes, asked.alignment);
        case operation_kind::reallocate: {
            void* const moved = early.allocate(asked.bytes, sizing::quantum);
            return moved == nullptr
                       ? nullptr
                       : std::memcpy(moved, asked.block,
                                     std::min(asked.bytes, early_store::bytes_of(asked.block)));
        }
        case operation_kind::deallocate:
            break;
    }
    return nullptr;
}

void* answer(operation const& asked) noexcept {
    next_in_line const* const to = find();
    bool const is_early = to == nullptr && state.load(std::memory_order_relaxed) == search::running;
    if (is_early && (asked.block == nullptr || early.holds(asked.block))) {
        if (void* const block = answer_early(asked);
            block != nullptr || asked.kind == operation_kind::deallocate) {
            return block;
        }
    }
    if (to == nullptr || (asked.block != nullptr && heap::page_of(asked.block) != nullptr)) {
        return heap::perform_in_heap(asked);
    }
    bool const is_new = asked.by != family::malloc && to->of(asked.by).make != nullptr;
    switch (asked.kind) {
        case operation_kind::allocate:
            return is_new ? make_object(to->of(asked.by), asked) : to->direct.allocate(asked.bytes);
        case operation_kind::allocate_zeroed:
            return to->direct.allocate_zeroed(1, asked.bytes);
        case operation_kind::allocate_aligned:
            return is_new ? make_object(to->of(asked.by), asked)
                          : to->direct.allocate_aligned(asked.alignment, asked.bytes);
        case operation_kind::reallocate:
            return to->direct.reallocate(asked.block, asked.bytes);
        case operation_kind::deallocate:
            deallocate_told(asked.block, asked.bytes, asked.alignment, asked.by);
            return nullptr;
    }
    return nullptr;
}

std::size_t usable_bytes(void const* block, void const* caller) noexcept {
    next_in_line const* const to = find();
    if (to == nullptr || heap::page_of(block) != nullptr) {
        return heap::usable_bytes_in_heap(block, caller);
    }
    return early.holds(block) ? early_store::bytes_of(block)
                              : to->malloc_usable_size(const_cast<void*>(block));
}

heap::found_block find_block_around(void const* ptr) noexcept {
    next_in_line const* const to = find();
    if (to == nullptr || ptr == nullptr || heap::page_of(ptr) != nullptr) {
        return heap::find_block_in_heap(ptr);
    }
    void* const start = const_cast<void*>(ptr);
    if (platform::find_watching_tool() != platform::watching_tool::valgrind) {
        platform::watched_block const found = platform::ask_sanitizer(ptr);
        return found.is_block ? heap::found_block{.start = start, .bytes = found.bytes}
                              : heap::found_block{};
    }
    if (!tells_exact_sizes()) {
        return {.start = start, .bytes = heap::unknown_bytes};
    }
    std::size_t const bytes = to->malloc_usable_size(start);
    return bytes != 0 ? heap::found_block{.start = start, .bytes = bytes} : heap::found_block{};
}

constexpr heap::stand_in stepping_aside{.answer = &answer,
                                        .usable_bytes = &usable_bytes,
                                        .find_block_around = &find_block_around,
                                        .find_direct = &find_direct};

}  // namespace

heap::stand_in const* choose_stand_in(control::options const& of) noexcept {
    using platform::watching_tool;
    watching_tool const tool =
        platform::is_sanitized ? watching_tool::none : platform::find_watching_tool();
    bool const may_stay =
        tool == watching_tool::valgrind && of.valgrind == control::valgrind_choice::stay;
    if (tool == watching_tool::none || may_stay) {
        return nullptr;
    }
    if (of.verbose != 0) {
        base::text_buffer<128> text;
        text << "tarn: stepped aside for " << platform::name_of(tool) << '\n';
        control::write_report(text.view());
    }
    return &stepping_aside;
}

next_in_line const* next() noexcept {
    // Another stand-in may have a table of its own.
    return heap::find_direct(heap::this_thread) == &line.direct ? &line : nullptr;
}

new_functions const* next_new(heap::family by) noexcept {
    next_in_line const* const to = next();
    return to == nullptr || to->of(by).make == nullptr ? nullptr : &to->of(by);
}

}  // namespace tarn::impl::aside
