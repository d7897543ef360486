#include "heap/diversion.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "platform/threads.hpp"
#include "heap/list_reader.hpp"
#include "heap/process.hpp"
#include "malloc/entry.hpp"
#include "heap_fixture.hpp"
#include "support/process.hpp"

namespace {

using namespace tarn::impl;
using namespace tarn::impl::heap;
using tarn::test::heap_test;

/// Notes what it is asked, and passes it on.
class recorder : public diversion {
public:
    explicit recorder(std::string* order = nullptr, char letter = ' ')
        : diversion{&note}, order_{order}, letter_{letter} {}

    std::vector<operation> seen;
    bool refuses = false;

private:
    static void* note(diversion& self, operation const& asked) noexcept {
        auto& mine = static_cast<recorder&>(self);
        EXPECT_NE(this_thread, &diverted_heap) << "an answer is served by the thread's own heap";
        mine.seen.push_back(asked);
        if (mine.order_ != nullptr) {
            mine.order_->push_back(mine.letter_);
        }
        if (mine.refuses && asked.kind != operation_kind::deallocate) {
            errno = ENOMEM;
            return nullptr;
        }
        return mine.pass_on(asked);
    }

    std::string* order_;
    char letter_;
};

class diversions : public heap_test {
protected:
    /// Runs body() in a thread of its own, which has its heap already and loses it afterwards.
    template <class Body>
    static void in_thread(Body body) {
        std::thread{[&body] {
            void* const first = this_thread->allocate(1);
            this_thread->deallocate(first);
            body();
        }}.join();
    }
};

TEST_F(diversions, see_every_operation_as_it_was_asked) {
    in_thread([] {
        thread_heap* const own = this_thread;
        recorder seer;
        seer.begin();
        EXPECT_EQ(this_thread, &diverted_heap);
        EXPECT_EQ(own_heap(), own);
        char const caller = 0;

        void* const plain = this_thread->allocate(100);
        auto* const zeroed = static_cast<char*>(allocate_zeroed(this_thread, 50, &caller));
        void* const aligned = allocate_aligned(this_thread, 70, 256, &caller);
        void* const moved = reallocate(this_thread, plain, 5000, &caller);
        for (void* const block : {static_cast<void*>(zeroed), aligned, moved}) {
            ASSERT_NE(block, nullptr);
        }
        EXPECT_EQ(std::string(zeroed, 50), std::string(50, '\0'));
        EXPECT_EQ(base::address_of(aligned) % 256, 0U);
        this_thread->deallocate(zeroed);
        this_thread->deallocate(nullptr);
        this_thread->deallocate(aligned);
        this_thread->deallocate(moved);
        EXPECT_TRUE(seer.end());
        EXPECT_EQ(this_thread, own);
        this_thread->deallocate(this_thread->allocate(100));

        struct expected {
            operation_kind kind;
            void* block;
            std::size_t bytes;
            std::size_t alignment;
        };
        std::vector<expected> const all = {
            {operation_kind::allocate, nullptr, 100, 0},
            {operation_kind::allocate_zeroed, nullptr, 50, 0},
            {operation_kind::allocate_aligned, nullptr, 70, 256},
            {operation_kind::reallocate, plain, 5000, 0},
            {operation_kind::deallocate, zeroed, 0, 0},
            {operation_kind::deallocate, aligned, 0, 0},
            {operation_kind::deallocate, moved, 0, 0},
        };
        ASSERT_EQ(seer.seen.size(), all.size());
        for (std::size_t i = 0; i < all.size(); ++i) {
            EXPECT_EQ(seer.seen[i].kind, all[i].kind) << i;
            EXPECT_EQ(seer.seen[i].block, all[i].block) << i;
            EXPECT_EQ(seer.seen[i].bytes, all[i].bytes) << i;
            EXPECT_EQ(seer.seen[i].alignment, all[i].alignment) << i;
            EXPECT_NE(seer.seen[i].caller, nullptr) << i;
        }
    });
}

TEST_F(diversions, see_sizes_of_every_kind_and_leave_the_sentinel_empty) {
    in_thread([] {
        recorder seer;
        seer.begin();
        std::size_t asked = 0;
        for (std::size_t bytes = 1; bytes < 3 * MiB; bytes = bytes * 3 / 2 + 1) {
            void* const block = this_thread->allocate(bytes);
            ASSERT_NE(block, nullptr);
            std::memset(block, 0x5a, bytes);
            this_thread->deallocate(block);
            EXPECT_EQ(seer.seen.size(), asked += 2);
            EXPECT_EQ(diverted_heap.try_allocate(bytes), nullptr);
        }
        EXPECT_TRUE(seer.end());
        EXPECT_EQ(diverted_heap.phase.load(), heap_phase::unused);
    });
}

TEST_F(diversions, nest_the_latest_first_and_end_in_any_order) {
    in_thread([] {
        thread_heap* const own = this_thread;
        std::string order;
        recorder a{&order, 'a'};
        recorder b{&order, 'b'};
        recorder c{&order, 'c'};
        auto const asked_in_order = [&order] {
            order.clear();
            this_thread->deallocate(this_thread->allocate(10));
            return order;
        };
        a.begin();
        b.begin();
        c.begin();
        EXPECT_EQ(asked_in_order(), "cbacba");
        EXPECT_TRUE(a.end());
        EXPECT_FALSE(a.end());
        EXPECT_EQ(asked_in_order(), "cbcb");
        EXPECT_TRUE(c.end());
        EXPECT_EQ(asked_in_order(), "bb");
        a.begin();
        EXPECT_EQ(asked_in_order(), "abab");
        b.refuses = true;
        EXPECT_EQ(this_thread->allocate(10), nullptr);
        EXPECT_TRUE(b.end());
        EXPECT_TRUE(a.end());
        EXPECT_EQ(this_thread, own);
        EXPECT_EQ(asked_in_order(), "");
    });
}

TEST_F(diversions, belong_to_one_thread) {
    in_thread([] {
        recorder seer;
        seer.begin();
        std::size_t const before = seer.seen.size();
        thread_heap* other = nullptr;
        std::thread thread{[&seer, &other] {
            void* const block = this_thread->allocate(40);
            other = this_thread;
            EXPECT_FALSE(seer.end());
            this_thread->deallocate(block);
        }};
        thread.join();
        EXPECT_NE(other, &diverted_heap);
        EXPECT_EQ(seer.seen.size(), before);
        EXPECT_TRUE(seer.end());
    });
}

TEST_F(diversions, of_a_thread_without_a_heap_outlast_its_first_allocation) {
    std::thread{[] {
        ASSERT_EQ(this_thread, &empty_heap);
        recorder outer;
        outer.begin();
        recorder seer;
        seer.begin();
        void* const block = this_thread->allocate(10);
        ASSERT_NE(block, nullptr);
        EXPECT_EQ(this_thread, &diverted_heap);
        thread_heap* const own = own_heap();
        EXPECT_EQ(own->phase.load(), heap_phase::active);
        this_thread->deallocate(block);
        EXPECT_EQ(seer.seen.size(), 2U);
        EXPECT_TRUE(seer.end());
        EXPECT_EQ(own_heap(), own);
        EXPECT_TRUE(outer.end());
        EXPECT_EQ(this_thread, own);
    }}.join();
}

TEST_F(diversions, of_a_finished_thread_see_what_the_late_heap_serves) {
    std::thread{[] {
        void* const first = this_thread->allocate(10);
        this_thread->deallocate(first);
        recorder forgotten;
        forgotten.begin();
        leave_thread(*own_heap());
        ASSERT_EQ(this_thread, &finished_heap);
        EXPECT_FALSE(forgotten.end()) << "it ended with the thread's heap";
        recorder seer;
        seer.begin();
        void* const block = this_thread->allocate(100);
        EXPECT_NE(block, nullptr);
        this_thread->deallocate(block);
        EXPECT_TRUE(seer.end());
        EXPECT_EQ(seer.seen.size(), 2U);
        EXPECT_TRUE(forgotten.seen.empty());
        EXPECT_EQ(this_thread, &finished_heap);
        static_cast<void>(platform::arm_thread_exit(nullptr));  // it has left already
    }}.join();
}

TEST_F(diversions, end_with_their_thread_which_gives_its_pages_back) {
    // In vain if the thread could still be asked: its stack is gone. The fixture finds lost pages.
    auto* const seer = new recorder;
    std::thread{[seer] {
        void* const block = this_thread->allocate(10);
        seer->begin();
        this_thread->deallocate(block);
    }}.join();
    EXPECT_EQ(seer->seen.size(), 1U);
    EXPECT_FALSE(seer->end());
    delete seer;
}

TEST_F(diversions, begun_or_ended_by_an_answer_take_effect_after_it) {
    in_thread([] {
        thread_heap* const own = this_thread;
        struct nester : diversion {
            nester() : diversion{&nest} {}

            static void* nest(diversion& self, operation const& asked) noexcept {
                auto& mine = static_cast<nester&>(self);
                ++mine.asked;
                mine.inner.begin();
                this_thread->deallocate(this_thread->allocate(30));  // nobody's
                EXPECT_TRUE(mine.inner.end());
                if (mine.leaves_it_on) {
                    mine.inner.begin();
                }
                return mine.pass_on(asked);
            }

            recorder inner;
            int asked = 0;
            bool leaves_it_on = false;
        };

        nester outer;
        outer.begin();
        void* const block = this_thread->allocate(10);
        EXPECT_EQ(outer.asked, 1);
        EXPECT_TRUE(outer.inner.seen.empty());
        EXPECT_EQ(this_thread, &diverted_heap);
        outer.leaves_it_on = true;
        this_thread->deallocate(block);
        EXPECT_EQ(outer.asked, 2);
        EXPECT_TRUE(outer.inner.seen.empty());
        EXPECT_TRUE(outer.end());
        this_thread->deallocate(this_thread->allocate(10));
        EXPECT_EQ(outer.inner.seen.size(), 2U);
        EXPECT_TRUE(outer.inner.end());
        EXPECT_EQ(this_thread, own);
    });
}

TEST_F(diversions, leave_misuse_its_name_and_its_caller) {
    in_thread([] {
        recorder seer;
        seer.begin();
        std::uint64_t local[2]{};
        this_thread->deallocate(local);
        void* const twice = this_thread->allocate(64);
        void* const kept = this_thread->allocate(64);
        this_thread->deallocate(twice);
        this_thread->deallocate(twice);
        EXPECT_EQ(this_thread->allocate(std::size_t{PTRDIFF_MAX} + 1), nullptr);
        this_thread->deallocate(kept);
        EXPECT_TRUE(seer.end());
        auto const events = reported();
        ASSERT_EQ(events.size(), 3U);
        EXPECT_EQ(events[0].kind, misuse_kind::foreign_pointer);
        EXPECT_EQ(events[0].caller, seer.seen[0].caller);
        EXPECT_EQ(events[1].kind, misuse_kind::double_free);
        EXPECT_EQ(events[1].caller, seer.seen[4].caller);
        EXPECT_EQ(events[2].kind, misuse_kind::size_overflow);
        EXPECT_EQ(events[2].caller, seer.seen[5].caller);
    });
}

TEST_F(diversions, do_not_hide_the_own_heap_from_whoever_measures_or_trims_it) {
    in_thread([] {
        void* const block = this_thread->allocate(big_bytes);
        void* const listed_one = this_thread->allocate(big_bytes);
        this_thread->deallocate(listed_one);
        thread_heap const& own = *this_thread;
        recorder seer;
        seer.begin();
        list_lengths listed{};
        list_reader reader;
        reader.measure_own(listed);
        EXPECT_EQ(listed[big_class], own.listed(big_class));
        EXPECT_GT(listed[big_class], 0U);
        this_thread->deallocate(block);
        static_cast<void>(trim(this_thread, reclaim_scope::process, nullptr));
        static_cast<void>(scavenge(this_thread, nullptr));
        EXPECT_EQ(this_thread, &diverted_heap);
        EXPECT_EQ(own.listed(big_class), 0U) << "the empty page went";
        EXPECT_EQ(seer.seen.size(), 1U) << "neither is an operation on a block";
        EXPECT_TRUE(seer.end());
    });
}

TEST_F(diversions, go_on_in_a_forked_child) {
    in_thread([] {
        recorder seer;
        seer.begin();
        void* const block = this_thread->allocate(100);
        prepare_fork();
        int const status = tarn::test::run_in_child(20, [&seer, block] {
            fork_in_child();
            std::size_t const before = seer.seen.size();
            thread_heap const& own = *own_heap();
            this_thread->deallocate(block);
            this_thread->deallocate(this_thread->allocate(200));
            bool const fine = own.phase.load() == heap_phase::active &&
                              own.thread_id.load() == platform::os::thread_id() &&
                              seer.seen.size() == before + 3 && seer.end() && this_thread == &own;
            return fine ? 0 : 1;
        });
        fork_in_parent();
        EXPECT_TRUE(WIFEXITED(status));
        EXPECT_EQ(WEXITSTATUS(status), 0);
        this_thread->deallocate(block);
        EXPECT_TRUE(seer.end());
    });
}

TEST_F(diversions, keep_errno_where_nothing_fails) {
    in_thread([] {
        recorder seer;
        seer.begin();
        errno = EDOM;
        void* const block = this_thread->allocate(100);
        EXPECT_EQ(errno, EDOM);
        this_thread->deallocate(block);
        EXPECT_EQ(errno, EDOM);
        seer.refuses = true;
        EXPECT_EQ(this_thread->allocate(100), nullptr);
        EXPECT_EQ(errno, ENOMEM);
        errno = EDOM;
        void* out = &seer;
        EXPECT_EQ(entry::posix_memalign(&out, 64, 10, nullptr), ENOMEM);
        EXPECT_EQ(errno, EDOM);
        EXPECT_EQ(out, &seer);
        EXPECT_TRUE(seer.end());
    });
}

// --- stand-ins -----------------------------------------------------------------------------------

/// Counts, and lets the heap do the work with blocks that begin 32 bytes later.
struct shifting {
    static constexpr std::size_t shift = 32;

    static inline std::atomic<int> answered{0};

    static void* answer(operation const& asked) noexcept {
        EXPECT_NE(this_thread, &diverted_heap);
        ++answered;
        operation passed = asked;
        switch (asked.kind) {
            case operation_kind::deallocate:
                passed.block = back(asked.block);
                return perform_in_heap(passed);
            case operation_kind::reallocate:
                passed.block = back(asked.block);
                passed.bytes += shift;
                return forth(perform_in_heap(passed));
            default:
                passed.bytes += shift;
                return forth(perform_in_heap(passed));
        }
    }

    static std::size_t usable(void const* block, void const* caller) noexcept {
        return block == nullptr
                   ? 0
                   : usable_bytes_in_heap(static_cast<std::byte const*>(block) - shift, caller) -
                         shift;
    }

    static found_block around(void const* ptr) noexcept {
        found_block found = find_block_in_heap(ptr);
        found.start = forth(found.start);
        found.bytes -= found.start == nullptr ? 0 : shift;
        return found;
    }

    static void* forth(void* block) noexcept {
        return block == nullptr ? nullptr : static_cast<std::byte*>(block) + shift;
    }

    static void* back(void* block) noexcept { return static_cast<std::byte*>(block) - shift; }
};

constexpr stand_in shifting_one{.answer = &shifting::answer,
                                .usable_bytes = &shifting::usable,
                                .find_block_around = &shifting::around};

/// Runs body() where a stand-in answers for all threads: it can't be ended, so in a child. Failed
/// expectations and a body that says no are told by the status.
template <class Body>
void with_stand_in(Body body) {
    static_cast<void>(start_process());
    int const status = tarn::test::run_in_child(20, [&body] {
        process_state::options.answers = &shifting_one;
        bool fine = true;
        std::thread{[&] { fine = body(); }}.join();
        return fine && !::testing::Test::HasFailure() ? 0 : 1;
    });
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(diversions, stand_in_answers_a_thread_from_its_first_operation_on) {
    with_stand_in([] {
        EXPECT_EQ(this_thread, &empty_heap);
        void* const first = this_thread->allocate(100);
        EXPECT_EQ(shifting::answered, 1);
        EXPECT_EQ(this_thread, &diverted_heap);
        EXPECT_EQ(own_heap()->phase.load(), heap_phase::active);
        EXPECT_EQ(usable_bytes(first, nullptr) + shifting::shift,
                  usable_bytes_in_heap(shifting::back(first), nullptr));
        EXPECT_EQ(find_block_around(first).start, first);
        EXPECT_EQ(find_home(first).bytes, usable_bytes(first, nullptr));
        void* const zeroed = allocate_zeroed(this_thread, 100, nullptr);
        void* const aligned = allocate_aligned(this_thread, 100, 64, nullptr, family::new_one);
        void* const moved = reallocate(this_thread, first, 1000, nullptr);
        for (void* const block : {zeroed, aligned, moved}) {
            EXPECT_NE(block, nullptr);
            this_thread->deallocate(block);
        }
        EXPECT_EQ(shifting::answered, 7);
        EXPECT_EQ(this_thread, &diverted_heap);
        return true;
    });
}

TEST_F(diversions, stand_in_is_served_by_the_heap_whatever_comes_first) {
    with_stand_in([] {
        for (auto* const first :
             {+[] { static_cast<void>(trim(this_thread, reclaim_scope::thread, nullptr)); },
              +[] { enter_if_new(); }, +[] { static_cast<void>(usable_bytes(nullptr, nullptr)); },
              +[] {
                  recorder seer;
                  seer.begin();
                  EXPECT_TRUE(seer.end());
              }}) {
            std::thread{[first] {
                first();
                int const before = shifting::answered;
                this_thread->deallocate(this_thread->allocate(24));
                EXPECT_EQ(shifting::answered, before + 2);
                EXPECT_EQ(this_thread, &diverted_heap);
            }}.join();
        }
        return true;
    });
}

TEST_F(diversions, stand_in_comes_after_the_diversions_of_a_thread) {
    with_stand_in([] {
        recorder seer;
        seer.begin();
        void* const block = this_thread->allocate(100);
        EXPECT_EQ(seer.seen.size(), 1U);
        EXPECT_EQ(shifting::answered, 1);
        EXPECT_TRUE(seer.end());
        EXPECT_EQ(this_thread, &diverted_heap);
        this_thread->deallocate(block);
        EXPECT_EQ(seer.seen.size(), 1U);
        EXPECT_EQ(shifting::answered, 2);
        return true;
    });
}

TEST_F(diversions, stand_in_answers_a_thread_past_its_exit_too) {
    with_stand_in([] {
        void* const block = this_thread->allocate(100);
        leave_thread(*own_heap());
        EXPECT_EQ(this_thread, &diverted_heap);
        EXPECT_EQ(own_heap(), &finished_heap);
        int const before = shifting::answered;
        this_thread->deallocate(block);
        void* const late = this_thread->allocate(50);
        EXPECT_NE(late, nullptr);
        this_thread->deallocate(late);
        EXPECT_EQ(shifting::answered, before + 3);
        EXPECT_EQ(own_heap(), &finished_heap);
        return true;
    });
}

TEST_F(diversions, stand_in_hears_what_a_free_says) {
    static operation last{};
    static constexpr stand_in listener{.answer =
                                           [](operation const& asked) noexcept {
                                               last = asked;
                                               return perform_in_heap(asked);
                                           },
                                       .usable_bytes = &usable_bytes_in_heap,
                                       .find_block_around = &find_block_in_heap};
    with_stand_in([] {
        process_state::options.answers = &listener;
        auto const seen = [](family by, std::size_t bytes, std::size_t alignment) {
            return last.kind == operation_kind::deallocate && last.by == by &&
                   last.bytes == bytes && last.alignment == alignment;
        };
        this_thread->deallocate(this_thread->allocate(10));
        EXPECT_TRUE(seen(family::malloc, 0, 0));
        this_thread->deallocate_as<family::new_one>(this_thread->allocate(10));
        EXPECT_TRUE(seen(family::new_one, 0, 0));
        this_thread->deallocate_as<family::new_array>(this_thread->allocate(10), 10);
        EXPECT_TRUE(seen(family::new_array, 10, 0));
        this_thread->deallocate_aligned<family::new_one>(this_thread->allocate(10), 10, 32);
        EXPECT_TRUE(seen(family::new_one, 10, 32));
        return true;
    });
}

}  // namespace
