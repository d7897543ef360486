// Heaps that the program makes: the part of tarn/tarn.h that is about them.

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "tarn/tarn.h"

#include "heap/process.hpp"
#include "heap/user_heap.hpp"
#include "malloc/entry.hpp"

namespace entry = tarn::impl::entry;
namespace heap = tarn::impl::heap;
using heap::this_thread;

namespace {

/// `any` is not for callers.
heap::heap_id id_of(tarn_heap of) noexcept {
    auto const id = static_cast<heap::heap_id>(of.id);
    return id == heap::heap_id::any ? heap::heap_id::none : id;
}

tarn_heap handle_of(heap::heap_id id) noexcept { return {static_cast<std::uint64_t>(id)}; }

void* allocate(tarn_heap from, heap::run_request wanted, heap::contents filled,
               char const* operation, void const* caller) noexcept {
    return heap::allocate_in(this_thread, id_of(from), wanted, filled, operation, caller);
}

bool is_known(std::size_t size) noexcept {
    return size >= sizeof(std::size_t) && size <= sizeof(tarn_heap_stats);
}

/// As much as a row of `size` bytes has room for.
void hand_over(heap::user_heap_figures const& from, void* to, std::size_t size) noexcept {
    tarn_heap_stats row{};
    static_assert(sizeof row.name == std::tuple_size_v<decltype(from.name)>);
    row.size = size;
    row.heap = handle_of(from.id);
    std::copy(from.name.begin(), from.name.end(), row.name);
    row.live_blocks = from.live_blocks;
    row.live_bytes = from.live_bytes;
    row.allocations = from.allocations;
    row.held_bytes = from.held_bytes;
    row.held_peak_bytes = from.held_peak_bytes;
    row.limit_bytes = from.limit_bytes;
    row.limit_refusals = from.refusals;
    row.metadata_bytes = from.metadata_bytes;
    row.pages = from.pages;
    row.lanes = from.lanes;
    row.numa_node = from.numa_node;
    std::memcpy(to, &row, size);
}

struct visit_request {
    tarn_block_visitor visit;
    void* context;
};

bool call_visitor(void* start, std::size_t bytes, void* context) noexcept {
    auto const& wanted = *static_cast<visit_request const*>(context);
    return wanted.visit(start, bytes, wanted.context) == 0;
}

}  // namespace

extern "C" {

tarn_heap tarn_heap_create(tarn_heap_options const* options) noexcept {
    heap::user_heap_options wanted;
    if (options != nullptr) {
        if (options->size != sizeof(tarn_heap_options) ||
            (options->has_numa_node != 0 && options->numa_node < 0)) {
            errno = EINVAL;
            return {0};
        }
        wanted.name = options->name != nullptr ? options->name : "";
        wanted.limit_bytes = options->limit_bytes;
        wanted.numa_node = options->has_numa_node != 0 ? options->numa_node : heap::any_node;
    }
    int const kept = errno;
    heap::enter_if_new();
    heap::heap_id const made =
        heap::start_process() ? heap::create_heap(wanted) : heap::heap_id::none;
    errno = made == heap::heap_id::none ? ENOMEM : kept;
    return handle_of(made);
}

int tarn_heap_destroy(tarn_heap which) noexcept {
    return heap::destroy_heap(this_thread, id_of(which), TARN_CALLER) ? 0 : EINVAL;
}

void* tarn_heap_malloc(tarn_heap from, std::size_t bytes) noexcept {
    if (void* const block = heap::allocate_quickly(this_thread, id_of(from), bytes)) {
        return block;
    }
    return allocate(from, {.bytes = bytes, .alignment = tarn::impl::sizing::quantum},
                    heap::contents::any, "tarn_heap_malloc", TARN_CALLER);
}

void* tarn_heap_calloc(tarn_heap from, std::size_t count, std::size_t bytes) noexcept {
    std::size_t product = 0;
    if (!entry::multiply("tarn_heap_calloc", count, bytes, product, TARN_CALLER)) {
        return nullptr;
    }
    return allocate(from, {.bytes = product, .alignment = tarn::impl::sizing::quantum},
                    heap::contents::zero, "tarn_heap_calloc", TARN_CALLER);
}

void* tarn_heap_aligned_alloc(tarn_heap from, std::size_t alignment, std::size_t bytes) noexcept {
    if (alignment > SIZE_MAX / 2 + 1) {
        errno = EINVAL;
        return nullptr;
    }
    return allocate(from,
                    {.bytes = bytes,
                     .alignment = std::bit_ceil(std::max(alignment, tarn::impl::sizing::quantum))},
                    heap::contents::any, "tarn_heap_aligned_alloc", TARN_CALLER);
}

void tarn_heap_free(tarn_heap from, void* block) noexcept {
    if (heap::deallocate_quickly(this_thread, block, id_of(from))) {
        return;
    }
    heap::deallocate_in(this_thread, id_of(from), block, TARN_CALLER);
}

int tarn_expand(void* block, std::size_t bytes) noexcept {
    return block != nullptr && heap::expand(this_thread, block, bytes, TARN_CALLER) ? 1 : 0;
}

tarn_heap tarn_heap_of(void const* address) noexcept {
    heap::page const* const home = heap::page_of(address);
    return handle_of(home == nullptr ? heap::heap_id::none : heap::heap_of(*home));
}

int tarn_heap_set_limit(tarn_heap which, std::uint64_t bytes) noexcept {
    return heap::set_heap_limit(id_of(which), bytes) ? 0 : EINVAL;
}

int tarn_heap_stats_get(tarn_heap which, tarn_heap_stats* out) noexcept {
    heap::user_heap const* const of = heap::find_heap(id_of(which));
    if (of == nullptr || out == nullptr || !is_known(out->size)) {
        return EINVAL;
    }
    heap::user_heap_figures const figures = heap::measure_heap(*of);
    if (figures.id != id_of(which)) {
        return EINVAL;
    }
    hand_over(figures, out, out->size);
    return 0;
}

std::size_t tarn_heaps_get_all(tarn_heap_stats* rows, std::size_t room) noexcept {
    std::size_t const size = rows != nullptr && room != 0 ? rows->size : 0;
    std::size_t count = 0;
    heap::process.user_heaps.for_each([&count, rows, room, size](heap::user_heap const& each) {
        heap::user_heap_figures const figures = heap::measure_heap(each);
        if (figures.id == heap::heap_id::none) {
            return;
        }
        if (rows != nullptr && count < room && is_known(size)) {
            hand_over(figures, reinterpret_cast<char*>(rows) + count * size, size);
        }
        ++count;
    });
    return count;
}

int tarn_heap_walk(tarn_heap which, tarn_block_visitor visit, void* context) noexcept {
    visit_request wanted{.visit = visit, .context = context};
    return visit != nullptr && heap::walk_heap(id_of(which), &call_visitor, &wanted) ? 0 : EINVAL;
}

std::size_t tarn_heap_trim(tarn_heap which) noexcept {
    return heap::trim_heap(this_thread, id_of(which), TARN_CALLER);
}

}  // extern "C"
