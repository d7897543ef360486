#include "heap/diversion.hpp"

#include "base/check.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

namespace {

// The chain of the calling thread: what was begun last. Beside this_thread, and read on slow paths
// alone. While there is a chain, this_thread is diverted_heap, or the own heap serves for a while.
#if defined(TARN_TLS_MODEL_DYNAMIC) && TARN_TLS_MODEL_DYNAMIC
thread_local constinit diversion* first = nullptr;
#else
__attribute__((tls_model("initial-exec"))) thread_local constinit diversion* first = nullptr;
#endif

bool is_diverted() noexcept { return this_thread == &diverted_heap; }

}  // namespace

void diversion::begin() noexcept {
    bool const own_serves = first != nullptr && !is_diverted();
    own_ = own_heap();
    outer_ = first;
    first = this;
    if (!own_serves) {
        this_thread = &diverted_heap;
    }
}

bool diversion::end() noexcept {
    diversion** link = &first;
    while (*link != nullptr && *link != this) {
        link = &(*link)->outer_;
    }
    if (*link == nullptr) {
        return false;
    }
    *link = outer_;
    if (link == &first && is_diverted()) {
        if (outer_ != nullptr) {
            outer_->own_ = own_;
        } else {
            this_thread = own_;
        }
    }
    return true;
}

void* diversion::pass_on(operation const& asked) noexcept {
    return outer_ == nullptr ? perform(asked) : outer_->answer_(*outer_, asked);
}

void* diversion::perform(operation const& asked) noexcept {
    thread_heap* const own = own_heap();
    switch (asked.kind) {
        case operation_kind::allocate: {
            void* const block = own->try_allocate(asked.bytes);
            return block != nullptr ? block : allocate_for(own, asked.bytes, asked.caller);
        }
        case operation_kind::allocate_zeroed:
            return allocate_zeroed(own, asked.bytes, asked.caller);
        case operation_kind::allocate_aligned:
            return allocate_aligned(own, asked.bytes, asked.alignment, asked.caller);
        case operation_kind::reallocate:
            return reallocate(own, asked.block, asked.bytes, asked.caller);
        case operation_kind::deallocate:
            deallocate_for(own, asked.block, asked.caller);
            return nullptr;
    }
    return nullptr;
}

void* answer_diverted(operation const& asked) noexcept {
    TARN_ASSERT(first != nullptr);
    undiverted const served;
    return first->answer_(*first, asked);
}

void end_diversions() noexcept {
    this_thread = own_heap();
    first = nullptr;
}

thread_heap* own_heap() noexcept { return undiverted::in_place_of(this_thread); }

undiverted::undiverted() noexcept : was_diverted_{is_diverted()} {
    if (was_diverted_) {
        this_thread = first->own_;
    }
}

undiverted::~undiverted() {
    if (was_diverted_ && first != nullptr && !is_diverted()) {
        first->own_ = this_thread;  // it may have got its first heap meanwhile
        this_thread = &diverted_heap;
    }
}

thread_heap* undiverted::in_place_of(thread_heap* heap) noexcept {
    return heap == &diverted_heap ? first->own_ : heap;
}

}  // namespace tarn::impl::heap
