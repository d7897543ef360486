// heap/list_reader.hpp - list_reader: how many blocks wait in another thread's allocation lists.
//
// Threads    any; the heap's own may go on meanwhile. Then a length is that of a list that never
//            was, within bounds; while it rests the lengths are exact.
// Always     reads the other thread's lists through the system (process_vm_readv): what is written
//            at the same time is no data race, and what is unmapped at the same time no fault
// Errors     false: the system refuses to read, or has no memory for the copy
// Cost       some 10 us per 64 KiB that the lists lie in
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/units.hpp"
#include "sizing/size_class.hpp"
#include "heap/thread_heap.hpp"

namespace tarn::impl::heap {

using list_lengths = std::array<std::uint32_t, sizing::class_count>;

class list_reader {
public:
    list_reader() noexcept = default;
    list_reader(list_reader const&) = delete;
    list_reader& operator=(list_reader const&) = delete;
    ~list_reader();

    [[nodiscard]] bool measure(thread_heap const& of, list_lengths& to) noexcept;

    /// The same of the calling thread's own heap. Never fails; a list that a misuse has torn ends.
    void measure_own(list_lengths& to) noexcept;

private:
    enum class access : std::uint8_t { direct, by_copy };

    static constexpr std::size_t window_bytes = 64 * KiB;

    [[nodiscard]] std::uint32_t length_of(block const* first, unsigned size_class,
                                          access how) noexcept;
    /// The copy of a block; null: it can't be read.
    [[nodiscard]] block const* copy_of(block const* original) noexcept;
    [[nodiscard]] bool read_window(std::uintptr_t from) noexcept;

    std::byte* window_ = nullptr;  // a copy of what lies at window_at_
    std::uintptr_t window_at_ = 0;
    std::size_t window_filled_ = 0;
};

}  // namespace tarn::impl::heap
