// tarn/handle_table.hpp - element_handle<T>, handle_table<T, Sync>: elements of an object_pool by
// handles that know when their element is gone.
//
// Threads    handle_table<T, single_thread>: one at a time. With locked: any, but whoever uses an
//            element must know by other means that nobody deletes it meanwhile.
// Always     A handle is one word, trivially copyable: the number of a slot, and how often the slot
//            had been used. get() of a handle whose element was deleted is null, also when the slot
//            and the memory have another element; a slot is no longer used when its count would
//            repeat, after 2^31 elements. A handle made by default is null's. Pools without a table
//            pay nothing.
// Errors     as object_pool. delete_element() of a stale handle: false, and nothing happens.
//            std::length_error: 2^32 - 1 slots are in use
// Cost       get(): a slot's line and a comparison. 16 bytes for each slot; as many slots as there
//            were elements at once
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

#include <tarn/memory_resource.hpp>
#include <tarn/object_pool.hpp>

namespace tarn {

template <class T, class Sync>
class handle_table;

/// Names an element of a handle_table<T>. Comparable, and a key for hash tables by value().
template <class T>
class element_handle {
public:
    constexpr element_handle() noexcept = default;

    [[nodiscard]] constexpr std::uint64_t value() const noexcept {
        return (std::uint64_t{generation_} << 32) | slot_;
    }

    /// Of what value() gave.
    [[nodiscard]] static constexpr element_handle of_value(std::uint64_t value) noexcept {
        return {static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32)};
    }

    /// Whether it ever named an element.
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return generation_ != 0; }

    friend constexpr bool operator==(element_handle, element_handle) noexcept = default;

private:
    template <class U, class Sync>
    friend class handle_table;

    constexpr element_handle(std::uint32_t slot, std::uint32_t generation) noexcept
        : slot_{slot}, generation_{generation} {}

    std::uint32_t slot_ = 0;
    std::uint32_t generation_ = 0;  // odd, unless null's
};

template <class T, class Sync = single_thread>
class handle_table {
public:
    using pool = object_pool<T, Sync>;
    using handle = element_handle<T>;

    /// Over a pool that must outlive it; slots come from `upstream`.
    explicit handle_table(pool& elements, std::pmr::memory_resource* upstream = malloc_resource())
        : pool_{&elements}, slots_{upstream} {}

    handle_table(handle_table const&) = delete;
    handle_table& operator=(handle_table const&) = delete;

    /// Deletes the elements that it made and that are still there.
    ~handle_table() {
        for (std::uint32_t i = 0; i < slots_.size(); ++i) {
            if (is_used(slots_[i])) {
                static_cast<void>(delete_element({i, slots_[i].generation}));
            }
        }
    }

    template <class... Arguments>
    [[nodiscard]] handle new_element(Arguments&&... arguments) {
        T* const element = pool_->new_element(std::forward<Arguments>(arguments)...);
        try {
            std::lock_guard const guard{sync_};
            std::uint32_t const index = take_slot();
            slots_[index].element = element;
            ++slots_[index].generation;  // now odd
            ++size_;
            return {index, slots_[index].generation};
        } catch (...) {
            pool_->delete_element(element);
            throw;
        }
    }

    /// Null: the element is gone, or there never was one.
    [[nodiscard]] T* get(handle of) const noexcept {
        std::lock_guard const guard{sync_};
        return is_fresh(of) ? slots_[of.slot_].element : nullptr;
    }

    /// False: the element was gone already.
    bool delete_element(handle of) noexcept {
        T* element = nullptr;
        {
            std::lock_guard const guard{sync_};
            if (!is_fresh(of)) {
                return false;
            }
            element = slots_[of.slot_].element;
            return_slot(of.slot_);
            --size_;
        }
        pool_->delete_element(element);
        return true;
    }

    /// Number of elements.
    [[nodiscard]] std::size_t size() const noexcept {
        std::lock_guard const guard{sync_};
        return size_;
    }

private:
    struct slot {
        union {
            T* element = nullptr;
            std::uint32_t next_free;
        };

        std::uint32_t generation = 0;  // odd: the slot has an element
    };

    static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

    static bool is_used(slot const& each) noexcept { return each.generation % 2 != 0; }

    [[nodiscard]] bool is_fresh(handle of) const noexcept {
        return of.slot_ < slots_.size() && slots_[of.slot_].generation == of.generation_ &&
               of.generation_ != 0;
    }

    [[nodiscard]] std::uint32_t take_slot() {
        if (free_ != none) {
            return std::exchange(free_, slots_[free_].next_free);
        }
        if (slots_.size() == none) {
            throw std::length_error{"tarn::handle_table: no slot left"};
        }
        slots_.emplace_back();
        return static_cast<std::uint32_t>(slots_.size() - 1);
    }

    void return_slot(std::uint32_t index) noexcept {
        slot& gone = slots_[index];
        ++gone.generation;
        if (gone.generation != 0) {  // else old handles would name its next elements
            gone.next_free = free_;
            free_ = index;
        }
    }

    pool* pool_;
    std::pmr::vector<slot> slots_;
    std::uint32_t free_ = none;
    std::size_t size_ = 0;
    [[no_unique_address]] mutable Sync sync_{};
};

}  // namespace tarn
