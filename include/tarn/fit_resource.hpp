// tarn/fit_resource.hpp - fit_resource: std::pmr::memory_resource over a fit_heap.
//
// Threads    one at a time, as the heap
// Errors     as fit_heap::allocate() and fit_heap::deallocate(ptr, bytes). A container that returns
//            from a destructor what is not its own, or of another size, ends the program by that.
#pragma once

#include <cstddef>
#include <memory_resource>

#include <tarn/fit_heap.hpp>

namespace tarn {

/// The heap must outlive it. Equal are those over the same heap.
class fit_resource final : public std::pmr::memory_resource {
public:
    explicit fit_resource(fit_heap& heap) noexcept : heap_{&heap} {}

    [[nodiscard]] fit_heap& heap() const noexcept { return *heap_; }

private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return heap_->allocate(bytes, alignment);
    }

    void do_deallocate(void* ptr, std::size_t bytes, std::size_t /*alignment*/) override {
        heap_->deallocate(ptr, bytes);
    }

    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        auto const* const same = dynamic_cast<fit_resource const*>(&other);
        return same != nullptr && same->heap_ == heap_;
    }

    fit_heap* heap_;
};

}  // namespace tarn
