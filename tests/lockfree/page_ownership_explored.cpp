// page_ownership_explored - the core's remote word and stack of pages, in every interleaving of
// what docs/design/page-ownership.md allows: remote frees, pages that leave full and are claimed,
// pages that go into a bin and are adopted.
//
// Role       The word and the stack are the core's own; around them stands as much of a page and of
//            a heap as src/heap/thread_heap.cpp and owned_pages.cpp do with them, step by step.
// Always     What only a page's owner may touch is explored_data: two owners, or a hand-over that
//            orders nothing, is a race. In the end each block is live or in one list.
// Mutants    The word with a claim, or a leaving, in two steps; atomics without acquire or release.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/tagged_stack.hpp"
#include "heap/remote_word.hpp"
#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "lockfree/weak_atomics.hpp"

namespace {

using namespace tarn::test;
using tarn::impl::base::node_index;
using tarn::impl::heap::basic_remote_word;
using tarn::impl::heap::block;
using tarn::impl::heap::hold;
using tarn::impl::heap::remote_state;

using true_word = basic_remote_word<explored_atomics>;

constexpr std::size_t blocks_count = 3;
constexpr int nobody = -1;

struct alignas(16) cell {
    block link;
    explored_data<int> contents;
};

/// What heap/page.hpp has, as far as others can tell.
template <class Word>
struct small_page {
    explored_atomic<int> owner{nobody};  // read by anybody, for "mine?"
    explored_data<block*> local;
    explored_data<int> out;
    Word remote;
    explored_atomic<node_index> node_link;
    std::array<cell, blocks_count> cells;
};

template <class Word>
class page_scenario : public scenario {
public:
    [[nodiscard]] unsigned threads() const override { return 3; }

    void finish() override {
        remote_state const word = page_.remote.load();
        std::array<int, blocks_count> listed{};
        std::size_t free = count(page_.local.get(), listed);
        require(count(word.list(), listed) == word.count(), "the word's count is wrong");
        free += word.count();
        for (std::size_t i = 0; i < blocks_count; ++i) {
            require(listed[i] == (is_live_[i] ? 0 : 1), "a block is lost, or in two lists");
        }
        std::size_t const outside = blocks_count - (free - word.count());
        require(static_cast<std::size_t>(page_.out.get()) == outside, "out is wrong");
        int const owner = page_.owner.load(std::memory_order_relaxed);
        require((owner != nobody) == (word.how() == hold::held), "owner and word disagree");
        require(word.how() != hold::adrift || free == 0, "adrift, but not full");
    }

protected:
    /// All blocks are live, but for so many in the owner's list.
    void begin(int owner, std::size_t in_list) {
        page_.owner.store(owner, std::memory_order_relaxed);
        page_.out.set(static_cast<int>(blocks_count - in_list));
        for (std::size_t i = 0; i < in_list; ++i) {
            page_.cells[i].link.next = page_.local.get();
            page_.local.set(&page_.cells[i].link);
            is_live_[i] = false;
        }
    }

    /// free(), by any thread.
    void free(std::size_t which) {
        is_live_[which] = false;
        page_.cells[which].contents.set(1);
        block* const freed = &page_.cells[which].link;
        if (page_.owner.load(std::memory_order_relaxed) == me()) {
            push_local(freed);
        } else {
            free_elsewhere(freed);
        }
    }

    void free_elsewhere(block* freed) {
        remote_state seen = page_.remote.load();
        for (;;) {
            if (seen.how() == hold::adrift) {
                if (page_.remote.try_claim()) {
                    page_.owner.store(me(), std::memory_order_relaxed);
                    push_local(freed);
                    return;
                }
                seen = page_.remote.load();
            } else if (page_.remote.try_push(seen, freed)) {
                return;
            }
        }
    }

    /// A full page leaves. False: blocks came back.
    bool leave_full() {
        page_.owner.store(nobody, std::memory_order_relaxed);
        if (page_.remote.set_adrift()) {
            return true;
        }
        page_.owner.store(me(), std::memory_order_relaxed);
        return false;
    }

    /// What others freed goes to the owner's list.
    void collect() {
        remote_state seen = page_.remote.look();
        while (seen.how() != hold::held || seen.list() != nullptr) {
            if (page_.remote.try_take(seen)) {
                block* last = seen.list();
                page_.out.set(page_.out.get() - static_cast<int>(seen.count()));
                for (std::uint32_t i = 1; i < seen.count(); ++i) {
                    last = last->next;
                }
                if (last != nullptr) {
                    last->next = page_.local.get();
                    page_.local.set(seen.list());
                }
                return;
            }
        }
    }

    /// The owner hands a block out again.
    void allocate() {
        block* const taken = page_.local.get();
        if (taken != nullptr) {
            page_.local.set(taken->next);
            page_.out.set(page_.out.get() + 1);
            auto const which = number_of(taken);
            page_.cells[which].contents.set(2);
            is_live_[which] = true;
        }
    }

    void put_in_bin() {
        page_.owner.store(nobody, std::memory_order_relaxed);
        page_.remote.set_binned();
        bin_.push(node_index{1}, link_of());
    }

    /// Whether the bin had the page.
    bool adopt() {
        if (bin_.pop(link_of()) == node_index::none) {
            return false;
        }
        page_.owner.store(me(), std::memory_order_relaxed);
        collect();
        return true;
    }

    small_page<Word> page_;

private:
    static int me() { return static_cast<int>(explored_thread()); }

    void push_local(block* freed) {
        freed->next = page_.local.get();
        page_.local.set(freed);
        page_.out.set(page_.out.get() - 1);
    }

    [[nodiscard]] std::size_t number_of(block const* which) const {
        return static_cast<std::size_t>(reinterpret_cast<cell const*>(which) - page_.cells.data());
    }

    std::size_t count(block const* list, std::array<int, blocks_count>& listed) const {
        std::size_t length = 0;
        for (; list != nullptr && length <= blocks_count; list = list->next, ++length) {
            ++listed[number_of(list)];
        }
        return length;
    }

    auto link_of() {
        return [this](node_index) -> explored_atomic<node_index>& { return page_.node_link; };
    }

    tarn::detail::tagged_stack<explored_atomics, node_index, tarn::impl::base::node_index_bits>
        bin_;
    std::array<bool, blocks_count> is_live_{true, true, true};
};

/// Thread 0 owns the page and takes what 1 and 2 free into it; twice, and uses a block in between.
template <class Word>
class remote_frees : public page_scenario<Word> {
public:
    remote_frees() { this->begin(0, 0); }

    void run(unsigned thread) override {
        if (thread == 0) {
            this->collect();
            this->allocate();
            this->collect();
        } else {
            this->free(thread);
        }
    }
};

/// Thread 0 parts with a full page, or goes on with what came back; 1 and 2 free into it, and
/// whoever comes first owns it then.
template <class Word>
class leaves_full : public page_scenario<Word> {
public:
    leaves_full() { this->begin(0, 0); }

    void run(unsigned thread) override {
        if (thread != 0) {
            this->free(thread);
        } else if (!this->leave_full()) {
            this->collect();
            require(this->page_.local.get() != nullptr, "nothing came back");
            this->allocate();
        }
    }
};

/// The same, and thread 0 frees its own block afterwards, whoever has the page by then.
template <class Word>
class leaves_and_frees : public page_scenario<Word> {
public:
    leaves_and_frees() { this->begin(0, 0); }

    void run(unsigned thread) override {
        if (thread == 0) {
            static_cast<void>(this->leave_full());
        }
        this->free(thread);
    }
};

/// Thread 0 puts a page into the bin; 1 frees into it; 2 adopts it and uses it.
template <class Word>
class goes_through_the_bin : public page_scenario<Word> {
public:
    goes_through_the_bin() { this->begin(0, 1); }

    void run(unsigned thread) override {
        if (thread == 0) {
            this->put_in_bin();
        } else if (thread == 1) {
            this->free(1);
        } else if (this->adopt()) {
            this->allocate();
            this->free(2);
        }
    }
};

/// Two adopt and put back what they find.
template <class Word>
class wanders : public page_scenario<Word> {
public:
    wanders() { this->begin(0, 1); }

    void run(unsigned thread) override {
        if (thread == 0) {
            this->put_in_bin();
            this->free(1);
        } else if (this->adopt()) {
            this->allocate();
            this->put_in_bin();
        }
    }
};

template <class Scenario>
exploration all_of(exploring const& how = {}) {
    return explore([] { return std::make_unique<Scenario>(); }, how);
}

template <class Scenario>
void expect_holds() {
    for (bool const buffers : {false, true}) {
        exploration const seen = all_of<Scenario>({.store_buffers = buffers});
        EXPECT_TRUE(seen.passed()) << seen;
        EXPECT_GT(seen.runs, 10U);
    }
}

TEST(page_ownership, remote_frees_reach_their_owner) { expect_holds<remote_frees<true_word>>(); }

TEST(page_ownership, a_full_page_leaves_and_is_claimed) { expect_holds<leaves_full<true_word>>(); }

TEST(page_ownership, its_former_owner_frees_like_any_other) {
    expect_holds<leaves_and_frees<true_word>>();
}

TEST(page_ownership, a_page_is_freed_into_on_its_way_through_the_bin) {
    expect_holds<goes_through_the_bin<true_word>>();
}

TEST(page_ownership, a_page_has_one_owner_however_often_it_is_adopted) {
    expect_holds<wanders<true_word>>();
}

/// Claims by a load and a store.
struct claims_plainly : true_word {
    bool try_claim() noexcept {
        if (load().how() != hold::adrift) {
            return false;
        }
        reset(hold::held);
        return true;
    }
};

/// Leaves by a load and a store.
struct leaves_plainly : true_word {
    bool set_adrift() noexcept {
        if (load().bits != remote_state::of(hold::held).bits) {
            return false;
        }
        reset(hold::adrift);
        return true;
    }
};

/// Takes by a load and a store.
struct takes_plainly : true_word {
    bool try_take(remote_state& seen) noexcept {
        seen = look();
        reset(hold::held);
        return true;
    }
};

template <class Scenario>
void expect_fails(std::string_view text) {
    exploration const seen = all_of<Scenario>();
    EXPECT_NE(seen.failure.find(text), std::string::npos) << seen;
    exploration const again = replay([] { return std::make_unique<Scenario>(); }, seen.schedule);
    EXPECT_EQ(again.failure, seen.failure);
}

TEST(page_ownership_mutants, two_claim_a_page) {
    expect_fails<leaves_full<claims_plainly>>("data race");
}

TEST(page_ownership_mutants, a_block_is_lost_where_the_page_leaves_in_two_steps) {
    expect_fails<leaves_full<leaves_plainly>>("lost");
}

TEST(page_ownership_mutants, a_block_is_lost_where_the_list_is_taken_in_two_steps) {
    expect_fails<remote_frees<takes_plainly>>("lost");
}

TEST(page_ownership_mutants, without_acquire_or_release_nothing_is_ordered) {
    expect_fails<leaves_full<basic_remote_word<weak_atomics<true, false>>>>("data race");
    expect_fails<leaves_full<basic_remote_word<weak_atomics<false, true>>>>("data race");
}

}  // namespace
