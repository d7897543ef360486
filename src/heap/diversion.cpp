#include "heap/diversion.hpp"

#include "base/check.hpp"
#include "base/errno_keeper.hpp"
#include "heap/process.hpp"

namespace tarn::impl::heap {

namespace {

// Beside this_thread, and read on slow paths alone.
struct thread_state {
    diversion* first = nullptr;  // what was begun last
    // Not null: the thread is diverted, this is what this_thread would be, and this_thread is
    // diverted_heap but for the times when the own heap serves.
    thread_heap* own = nullptr;
};

#if defined(TARN_TLS_MODEL_DYNAMIC) && TARN_TLS_MODEL_DYNAMIC
thread_local constinit thread_state state;
#else
__attribute__((tls_model("initial-exec"))) thread_local constinit thread_state state;
#endif

bool is_diverted() noexcept { return this_thread == &diverted_heap; }

void divert() noexcept {
    state.own = this_thread;
    this_thread = &diverted_heap;
}

}  // namespace

void diversion::begin() noexcept {
    static_cast<void>(divert_if_new(this_thread));
    outer_ = state.first;
    state.first = this;
    if (state.own == nullptr) {
        divert();
    }
}

bool diversion::end() noexcept {
    diversion** link = &state.first;
    while (*link != nullptr && *link != this) {
        link = &(*link)->outer_;
    }
    if (*link == nullptr) {
        return false;
    }
    *link = outer_;
    if (state.first == nullptr && current_stand_in() == nullptr) {
        if (is_diverted()) {
            this_thread = state.own;
        }
        state.own = nullptr;
    }
    return true;
}

void* diversion::pass_on(operation const& asked) noexcept {
    return outer_ == nullptr ? perform(asked) : outer_->answer_(*outer_, asked);
}

void* diversion::perform(operation const& asked) noexcept {
    stand_in const* const all = current_stand_in();
    return all == nullptr ? perform_in_heap(asked) : all->answer(asked);
}

void* perform_in_heap(operation const& asked) noexcept {
    thread_heap* const own = own_heap();
    switch (asked.kind) {
        case operation_kind::allocate: {
            void* const block = own->try_allocate(asked.bytes);
            return block != nullptr ? block
                                    : allocate_for(own, asked.bytes, asked.caller, asked.by);
        }
        case operation_kind::allocate_zeroed:
            return allocate_zeroed(own, asked.bytes, asked.caller);
        case operation_kind::allocate_aligned:
            return allocate_aligned(own, asked.bytes, asked.alignment, asked.caller, asked.by);
        case operation_kind::reallocate:
            return reallocate(own, asked.block, asked.bytes, asked.caller);
        case operation_kind::deallocate:
            deallocate_for(own, asked.block, asked.caller);
            return nullptr;
    }
    return nullptr;
}

stand_in const* current_stand_in() noexcept { return process_state::options.answers; }

stand_in const* current_checker() noexcept {
    stand_in const* const all = start_process() ? current_stand_in() : nullptr;
    return all == nullptr || all->figures == nullptr ? nullptr : all;
}

thread_heap* divert_if_new(thread_heap* heap) noexcept {
    if (heap != &empty_heap) [[likely]] {
        return heap;
    }
    if (state.own != nullptr) {
        // Beneath an answer, unless this_thread was read before the thread's first operation.
        return is_diverted() ? &diverted_heap : heap;
    }
    base::errno_keeper const keeper;
    if (!start_process() || current_stand_in() == nullptr) {
        return heap;
    }
    divert();
    return &diverted_heap;
}

direct_answers const* find_direct_slow(thread_heap* heap) noexcept {
    if (divert_if_new(heap) != &diverted_heap || state.first != nullptr) {
        return nullptr;
    }
    stand_in const* const all = current_stand_in();
    if (all == nullptr || all->find_direct == nullptr) {
        return nullptr;
    }
    return all->find_direct();
}

void* answer_diverted(operation const& asked) noexcept {
    undiverted const served;
    diversion* const first = state.first;
    return first == nullptr ? diversion::perform(asked) : first->answer_(*first, asked);
}

void end_diversions() noexcept {
    this_thread = own_heap();
    state = {};
}

void divert_finished_thread() noexcept {
    if (current_stand_in() != nullptr) {
        divert();
    }
}

thread_heap* own_heap() noexcept { return undiverted::in_place_of(this_thread); }

undiverted::undiverted() noexcept : was_diverted_{divert_if_new(this_thread) == &diverted_heap} {
    if (was_diverted_) {
        this_thread = state.own;
    }
}

undiverted::~undiverted() {
    if (was_diverted_ && state.own != nullptr && !is_diverted()) {
        divert();  // it may have got its first heap meanwhile
    }
}

program_runs::program_runs() noexcept
    : is_beneath_{state.own != nullptr && !is_diverted() && current_stand_in() != nullptr} {
    if (is_beneath_) {
        kept_ = state.first;
        state.first = nullptr;
        divert();
    }
}

program_runs::~program_runs() {
    if (!is_beneath_) {
        return;
    }
    this_thread = own_heap();
    diversion** last = &state.first;  // it may have begun some
    while (*last != nullptr) {
        last = &(*last)->outer_;
    }
    *last = kept_;
}

thread_heap* undiverted::in_place_of(thread_heap* heap) noexcept {
    return heap == &diverted_heap ? state.own : heap;
}

}  // namespace tarn::impl::heap
