#include "debug/debug_mode.hpp"

#include <cstring>

#include "base/bits.hpp"
#include "heap/process.hpp"
#include "debug/page_source.hpp"

namespace tarn::impl::debug {

namespace {

std::byte* allocate_from_heap(block_source::request& wanted) noexcept {
    bool const is_aligned = wanted.alignment > sizing::quantum;
    void* const start =
        heap::perform_in_heap({.kind = is_aligned      ? heap::operation_kind::allocate_aligned
                                       : wanted.zeroed ? heap::operation_kind::allocate_zeroed
                                                       : heap::operation_kind::allocate,
                               .bytes = wanted.bytes,
                               .alignment = wanted.alignment,
                               .caller = wanted.caller});
    if (start == nullptr) {
        return nullptr;
    }
    if (is_aligned && wanted.zeroed) {
        std::memset(start, 0, wanted.bytes);
    }
    wanted.source_bytes = heap::find_block_in_heap(start).bytes;
    return static_cast<std::byte*>(start);
}

std::size_t return_to_heap(block_record const& of) noexcept {
    heap::found_block const found = heap::find_block_in_heap(of.user);
    static_cast<void>(
        heap::perform_in_heap({.kind = heap::operation_kind::deallocate, .block = found.start}));
    return found.bytes;
}

std::size_t room_in_heap(block_record const& of) noexcept {
    heap::found_block const found = heap::find_block_in_heap(of.user);
    return base::address_of(found.start) + found.bytes - base::address_of(of.user);
}

bool is_live(block_record const* record) noexcept {
    return record != nullptr && record->current() == block_state::live;
}

void* answer(heap::operation const& asked) noexcept {
    void* result = nullptr;
    switch (asked.kind) {
        case heap::operation_kind::deallocate:
            return program_heap.deallocate(asked) ? nullptr : heap::perform_in_heap(asked);
        case heap::operation_kind::reallocate:
            return program_heap.reallocate(asked, &result) ? result : heap::perform_in_heap(asked);
        default:
            return program_heap.allocate(asked);
    }
}

std::size_t usable_bytes(void const* block, void const* caller) noexcept {
    block_record const* const record = checked_heap::find_start(block);
    return is_live(record) ? record->bytes : heap::usable_bytes_in_heap(block, caller);
}

heap::found_block find_block_around(void const* ptr) noexcept {
    block_record const* record = checked_heap::find_start(ptr);
    if (record == nullptr || record->current() == block_state::unused) {
        heap::found_block const outer = heap::find_block_in_heap(ptr);
        if (outer.start == nullptr || outer.start == ptr) {
            return outer;
        }
        record = program_heap.find(ptr);
        if (record == nullptr) {
            return outer;
        }
    }
    auto const offset = base::address_of(ptr) - base::address_of(record->user);
    return offset < record->bytes || offset == 0
               ? heap::found_block{.start = record->user, .bytes = record->bytes}
               : heap::found_block{};
}

heap::stand_in_figures figures() noexcept {
    check_figures const now = program_heap.figures();
    page_source_figures const runs = figures_of_page_source();
    std::uint64_t const idle_bytes = runs.idle_runs * page_run_bytes();
    return {.live_blocks = now.live_blocks,
            .live_bytes = now.live_bytes,
            .live_peak_bytes = now.live_peak_bytes,
            .quarantined_blocks = now.quarantined_blocks,
            .quarantined_bytes = now.quarantined_bytes,
            .heap_bytes = now.source_bytes + idle_bytes,
            .idle_blocks = runs.idle_runs,
            .metadata_bytes = records.committed_bytes() + stacks.committed_bytes(),
            .reserved_bytes = records.reserved_bytes() + stacks.reserved_bytes(),
            .checked_blocks = now.checked_blocks,
            .damaged_blocks = now.damaged_blocks,
            .findings = now.findings};
}

heap::check_result check_all(char const* operation, void const* caller) noexcept {
    return program_heap.check_all(operation, caller);
}

}  // namespace

namespace {

constexpr block_source from_heap{
    .allocate = &allocate_from_heap, .deallocate = &return_to_heap, .room = &room_in_heap};

}  // namespace

constinit checked_heap program_heap{heap_number::program, from_heap};

block_source heap_source() noexcept { return from_heap; }

heap::stand_in const& program_stand_in() noexcept {
    static constexpr heap::stand_in itself{.answer = &answer,
                                           .usable_bytes = &usable_bytes,
                                           .find_block_around = &find_block_around,
                                           .figures = &figures,
                                           .check_all = &check_all};
    return itself;
}

}  // namespace tarn::impl::debug
