// Operations of explored_atomics.hpp: each is a step of the explorer's.
#include "explorer/explored_atomics.hpp"

#include "explorer/engine.hpp"

namespace tarn::test {

namespace {

constexpr bool has_acquire(std::memory_order order) {
    return order != std::memory_order_relaxed && order != std::memory_order_release;
}

constexpr bool has_release(std::memory_order order) {
    return order == std::memory_order_release || order == std::memory_order_acq_rel ||
           order == std::memory_order_seq_cst;
}

}  // namespace

std::uint64_t explored_word::load(std::memory_order order) const {
    explorer* const by = explorer::active();
    if (by == nullptr) {
        return bits_;
    }
    by->step({.what = "load", .place = this, .kind = access::read});
    std::uint64_t const bits = by->own_view(*this);
    if (has_acquire(order)) {
        learn(by->clock(), released_);
    }
    by->end_step();
    return bits;
}

void explored_word::store(std::uint64_t bits, std::memory_order order) {
    explorer* const by = explorer::active();
    if (by == nullptr) {
        bits_ = bits;
        return;
    }
    bool const waits = by->has_buffers() && order != std::memory_order_seq_cst;
    by->step({.what = "store",
              .place = this,
              .kind = waits ? access::none : access::write,
              .is_full = !waits});
    vector_clock const released = has_release(order) ? by->clock() : vector_clock{};
    if (waits) {
        by->put_in_buffer(*this, bits, released);
    } else {
        bits_ = bits;
        released_ = released;
    }
    by->end_step();
}

bool explored_word::compare_exchange(std::uint64_t& expected, std::uint64_t wanted,
                                     std::memory_order success, std::memory_order failure) {
    explorer* const by = explorer::active();
    if (by != nullptr) {
        by->step({.what = "compare-exchange",
                  .place = this,
                  .kind = access::write,
                  .is_full = true,
                  .word = this,
                  .expected = expected});
    }
    bool const is_equal = bits_ == expected;
    if (is_equal) {
        end_fetch(wanted, success);
        return true;
    }
    expected = bits_;
    if (by != nullptr) {
        if (has_acquire(failure)) {
            learn(by->clock(), released_);
        }
        by->end_step();
    }
    return false;
}

void explored_word::begin_fetch(char const* what) {
    if (explorer* const by = explorer::active(); by != nullptr) {
        by->step({.what = what, .place = this, .kind = access::write, .is_full = true});
    }
}

void explored_word::end_fetch(std::uint64_t bits, std::memory_order order) {
    bits_ = bits;
    explorer* const by = explorer::active();
    if (by == nullptr) {
        return;
    }
    vector_clock const before = released_;
    if (has_release(order)) {
        learn(released_, by->clock());  // what was released before goes on: a release sequence
    }
    if (has_acquire(order)) {
        learn(by->clock(), before);
    }
    by->end_step();
}

void explored_mutex::lock() {
    explorer* const by = explorer::active();
    if (by == nullptr) {
        return;
    }
    by->step(
        {.what = "lock", .place = this, .kind = access::write, .is_full = true, .mutex = this});
    is_taken_ = true;
    learn(by->clock(), released_);
    by->end_step();
}

void explored_mutex::unlock() {
    explorer* const by = explorer::active();
    if (by == nullptr) {
        return;
    }
    by->step({.what = "unlock", .place = this, .kind = access::write, .is_full = true});
    is_taken_ = false;
    released_ = by->clock();
    by->end_step();
}

void access_record::read(void const* place) {
    explorer* const by = explorer::active();
    if (by == nullptr) {
        return;
    }
    by->check_place(place);
    unsigned const me = by->thread();
    vector_clock const& clock = by->clock();
    if (writer_ != nobody && writer_ != me && written_ > clock[writer_]) {
        by->fail("data race: reads what another thread writes");
    }
    read_[me] = clock[me];
}

void access_record::write(void const* place) {
    explorer* const by = explorer::active();
    if (by == nullptr) {
        return;
    }
    by->check_place(place);
    unsigned const me = by->thread();
    vector_clock const& clock = by->clock();
    if (writer_ != nobody && writer_ != me && written_ > clock[writer_]) {
        by->fail("data race: writes what another thread writes");
    }
    for (unsigned i = 0; i < explored_threads_most; ++i) {
        if (i != me && read_[i] > clock[i]) {
            by->fail("data race: writes what another thread reads");
        }
    }
    writer_ = me;
    written_ = clock[me];
}

}  // namespace tarn::test
