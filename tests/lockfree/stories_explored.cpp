// stories_explored - the three ways in which a lock-free pool crashes (docs/design/lockfree.md):
// the exact interleaving breaks the list as it is often written, and no interleaving breaks ours.
//
// Always     A schedule that must fail is written down; that it is the right one shows in what it
//            says. What must hold is exhausted, with delayed stores, too.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "tarn/detail/hazard_stack.hpp"
#include "tarn/detail/tagged_stack.hpp"

#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "lockfree/expectations.hpp"
#include "lockfree/naive_stack.hpp"

namespace {

using namespace tarn::test;

constexpr std::string_view given_back = "touches memory that was given back, in thread 0";

/// Three nodes, the first on top, and who has which.
template <class Node>
struct nodes_of {
    static constexpr std::size_t count = 3;

    std::array<Node, count> all;
    std::array<int, count> held{};       // by how many threads
    explored_data<int> contents[count];  // of nodes that a thread holds
};

// --- as it is often written ----------------------------------------------------------------------

using node = naive_node<explored_atomics>;

class naive : public scenario {
public:
    naive() {
        for (std::size_t i = nodes_.count; i-- > 0;) {
            stack_.push(nodes_.all[i]);
        }
    }

    [[nodiscard]] unsigned threads() const override { return 2; }

protected:
    nodes_of<node> nodes_;
    naive_stack<explored_atomics> stack_;
};

/// (a): thread 1 gives back the memory of what it popped.
class naive_gives_back : public naive {
public:
    void run(unsigned thread) override {
        node* const mine = stack_.pop();
        if (thread == 1) {
            bury(mine, sizeof *mine);
        }
    }
};

TEST(story_a, naive_pop_reads_the_link_of_memory_that_went_back) {
    // 0 reads the head; 1 pops it and gives it back; 0 reads its link.
    EXPECT_EQ(replay(made<naive_gives_back>(),
                     "0"
                     "1*"
                     "0")
                  .failure,
              given_back);
    EXPECT_EQ(replay(made<naive_gives_back>(), "0*1*").failure, "");
    expect_fails<naive_gives_back>(given_back);
}

/// (b): thread 1 pops two and pushes the first of them again.
class naive_aba : public naive {
public:
    void run(unsigned thread) override {
        if (thread == 0) {
            take(stack_.pop());
            return;
        }
        node* const first = stack_.pop();
        if (node* const second = stack_.pop(); second != nullptr) {
            take(second);
            stack_.push(*first);
        }
    }

    void finish() override {
        for (node* each = stack_.pop(); each != nullptr; each = stack_.pop()) {
            take(each);
        }
        for (int const each : nodes_.held) {
            require(each <= 1, "a node is handed out twice");
        }
    }

private:
    void take(node* mine) {
        if (mine != nullptr) {
            ++nodes_.held[static_cast<std::size_t>(mine - nodes_.all.data())];
        }
    }
};

TEST(story_b, naive_pop_is_fooled_by_a_head_that_comes_back) {
    // 0 reads the head and its link, the second; 1 pops both and pushes the first; 0 makes the
    // second, which 1 has, the head.
    EXPECT_EQ(replay(made<naive_aba>(),
                     "00"
                     "1*"
                     "0*")
                  .failure,
              "a node is handed out twice");
    EXPECT_EQ(replay(made<naive_aba>(), "1*0*").failure, "");
    expect_fails<naive_aba>("a node is handed out twice");
}

/// (c): thread 1 ends the list.
class naive_ends : public naive {
public:
    void run(unsigned thread) override {
        if (thread == 0) {
            static_cast<void>(stack_.pop());
        } else {
            stack_.end([](node& each) { bury(&each, sizeof each); });
        }
    }
};

TEST(story_c, naive_pop_reads_what_the_destructor_gave_back) {
    EXPECT_EQ(replay(made<naive_ends>(),
                     "0"
                     "1*"
                     "0")
                  .failure,
              given_back);
    EXPECT_EQ(replay(made<naive_ends>(), "1*0*").failure, "");
    expect_fails<naive_ends>(given_back);
}

/// (c), where no thread pops any more: thread 0 ends, and gives its cache back to the pool.
class naive_exit : public scenario {
public:
    [[nodiscard]] unsigned threads() const override { return 2; }

    void run(unsigned thread) override {
        if (thread == 0) {
            cache_.leave([this] { pool_.push(block_); });
        } else {
            cache_.pool_lives.store(false, std::memory_order_release);
            bury(&pool_, sizeof pool_);
        }
    }

private:
    naive_cache<explored_atomics> cache_;
    node block_;
    naive_stack<explored_atomics> pool_;
};

TEST(story_c, naive_thread_exit_gives_its_cache_to_a_pool_that_has_ended) {
    EXPECT_EQ(replay(made<naive_exit>(),
                     "0"
                     "1*"
                     "0")
                  .failure,
              given_back);
    EXPECT_EQ(replay(made<naive_exit>(), "1*0*").failure, "");
    expect_fails<naive_exit>(given_back);
}

// --- by number and tag ---------------------------------------------------------------------------

/// What the blocks hold may be given back; the links stay. That is the cure for (a).
class tagged : public scenario {
    auto link_of() {
        return [this](std::uint32_t which) -> explored_atomic<std::uint32_t>& {
            return links_[which];
        };
    }

public:
    tagged() {
        for (std::size_t i = blocks_.size(); i-- > 1;) {
            stack_.push(static_cast<std::uint32_t>(i), link_of());
        }
    }

    [[nodiscard]] unsigned threads() const override { return 2; }

protected:
    std::uint32_t pop() {
        std::uint32_t const mine = stack_.pop(link_of());
        if (mine != 0) {
            blocks_[mine].set(static_cast<int>(explored_thread()));
        }
        return mine;
    }

    void push(std::uint32_t mine) {
        blocks_[mine].set(0);
        stack_.push(mine, link_of());
    }

    void take(std::uint32_t mine) {
        if (mine != 0) {
            ++held_[mine];
        }
    }

    void count_rest() {
        for (std::uint32_t each = pop(); each != 0; each = pop()) {
            take(each);
        }
        for (std::size_t i = 1; i < held_.size(); ++i) {
            require(held_[i] == 1, "a block is lost, or handed out twice");
        }
    }

    std::array<explored_data<int>, 4> blocks_;

private:
    std::array<explored_atomic<std::uint32_t>, 4> links_;
    std::array<int, 4> held_{};
    tarn::detail::tagged_stack<explored_atomics, std::uint32_t, 32> stack_;
};

class tagged_gives_back : public tagged {
public:
    void run(unsigned thread) override {
        std::uint32_t const mine = pop();
        take(mine);
        if (thread == 1) {
            bury(&blocks_[mine], sizeof blocks_[mine]);
        }
    }

    void finish() override { count_rest(); }
};

TEST(story_a, tagged_stack_reads_links_that_stay) {
    EXPECT_EQ(replay(made<tagged_gives_back>(),
                     "0"
                     "1*"
                     "0*")
                  .failure,
              "");
    expect_holds<tagged_gives_back>(2);
}

class tagged_aba : public tagged {
public:
    void run(unsigned thread) override {
        if (thread == 0) {
            take(pop());
            return;
        }
        std::uint32_t const first = pop();
        take(pop());
        push(first);
    }

    void finish() override { count_rest(); }
};

TEST(story_b, tagged_stack_sees_that_its_head_was_away) {
    EXPECT_EQ(replay(made<tagged_aba>(),
                     "00"
                     "1*"
                     "0*")
                  .failure,
              "");
    expect_holds<tagged_aba>(3);
}

/// Three threads pop and push.
class tagged_traffic : public tagged {
public:
    [[nodiscard]] unsigned threads() const override { return 3; }

    void run(unsigned /*thread*/) override {
        if (std::uint32_t const mine = pop(); mine != 0) {
            push(mine);
        }
    }

    void finish() override { count_rest(); }
};

TEST(story_b, tagged_stack_holds_under_traffic_of_three) {
    exploration const seen = explore(made<tagged_traffic>());
    EXPECT_TRUE(seen.passed()) << seen;
}

// --- by pointer and name -------------------------------------------------------------------------

/// As explored_atomics, but a store for which all earlier ones must have landed does not wait.
struct hasty_atomics {
    template <class T>
    class atomic : public explored_atomic<T> {
    public:
        using explored_atomic<T>::explored_atomic;

        void store(T value, std::memory_order order) noexcept {
            explored_atomic<T>::store(
                value, order == std::memory_order_seq_cst ? std::memory_order_release : order);
        }
    };
};

template <class Atomics>
class hazard : public scenario {
public:
    using stack = tarn::detail::hazard_stack<Atomics, 2>;
    using hazard_node = typename stack::node;

    hazard() {
        for (std::size_t i = nodes_.count; i-- > 0;) {
            static_cast<void>(guests_[0].push(nodes_.all[i]));
        }
    }

    [[nodiscard]] unsigned threads() const override { return 2; }

    void finish() override {
        guests_[0].close();
        guests_[1].scan();
        for (std::size_t i = 0; i < nodes_.count; ++i) {
            require(nodes_.held[i] == 1, "a node is lost, or handed out twice");
        }
    }

protected:
    static void give_back(hazard_node& gone, void* context) noexcept {
        hazard& self = *static_cast<hazard*>(context);
        self.take(&gone);
        bury(&gone, sizeof gone);
    }

    std::size_t number_of(hazard_node const* mine) const {
        return static_cast<std::size_t>(mine - nodes_.all.data());
    }

    void take(hazard_node const* mine) {
        if (mine != nullptr) {
            ++nodes_.held[number_of(mine)];
        }
    }

    hazard_node* pop() {
        hazard_node* const mine = guests_[explored_thread()].pop();
        if (mine != nullptr) {
            nodes_.contents[number_of(mine)].set(1);
        }
        return mine;
    }

    nodes_of<hazard_node> nodes_;
    stack stack_{&give_back, this};
    std::array<typename stack::guest, 2> guests_{typename stack::guest{stack_},
                                                 typename stack::guest{stack_}};
};

template <class Atomics>
class hazard_gives_back : public hazard<Atomics> {
public:
    void run(unsigned thread) override {
        auto* const mine = this->pop();
        if (thread == 0) {
            this->take(mine);
        } else {
            this->guests_[1].retire(*mine);
            this->guests_[1].scan();
        }
    }
};

TEST(story_a, hazard_stack_keeps_what_somebody_reads) {
    using holds = hazard_gives_back<explored_atomics>;
    EXPECT_EQ(replay(made<holds>(),
                     "0"
                     "1*"
                     "0*")
                  .failure,
              "");
    EXPECT_EQ(replay(made<holds>(),
                     "00"
                     "1*"
                     "0*")
                  .failure,
              "");
    EXPECT_EQ(replay(made<holds>(),
                     "000"
                     "1*"
                     "0*")
                  .failure,
              "");
    expect_holds<holds>(3);
}

TEST(story_a, a_name_must_have_landed_before_the_second_look) {
    using hasty = hazard_gives_back<hasty_atomics>;
    exploration const in_order = explore(made<hasty>());
    EXPECT_TRUE(in_order.passed()) << in_order;  // only delayed stores tell
    expect_fails<hasty>(given_back, with_buffers);
}

/// Names the node, but does not look again.
class hasty_gives_back : public scenario {
public:
    hasty_gives_back() { stack_.push(node_); }

    [[nodiscard]] unsigned threads() const override { return 2; }

    void run(unsigned thread) override {
        node* const mine = stack_.pop(thread);
        if (thread == 1 && mine != nullptr && !stack_.is_named(*mine)) {
            bury(mine, sizeof *mine);
        }
    }

private:
    node node_;
    hasty_stack<explored_atomics> stack_;
};

TEST(story_a, a_name_is_worth_nothing_without_a_second_look) {
    EXPECT_EQ(replay(made<hasty_gives_back>(),
                     "0"
                     "1*"
                     "0*")
                  .failure,
              given_back);
    expect_fails<hasty_gives_back>(given_back);
}

/// Thread 1 pops two and has the first pushed again as soon as nobody reads it.
class hazard_aba : public hazard<explored_atomics> {
public:
    void run(unsigned thread) override {
        if (thread == 0) {
            take(pop());
            return;
        }
        hazard_node* const first = pop();
        take(pop());
        guests_[1].retire(*first);
        guests_[1].scan();
    }
};

TEST(story_b, hazard_stack_lets_no_node_come_back_that_somebody_reads) {
    EXPECT_EQ(replay(made<hazard_aba>(),
                     "0000"
                     "1*"
                     "0*")
                  .failure,
              "");
    expect_holds<hazard_aba>(3);
}

class hazard_ends : public hazard<explored_atomics> {
public:
    void run(unsigned thread) override {
        if (thread == 0) {
            take(pop());
        } else {
            guests_[1].close();
            require(!guests_[1].push(spare_), "something is pushed after the end");
        }
    }

private:
    hazard_node spare_;
};

TEST(story_c, hazard_stack_ends_while_others_pop) {
    EXPECT_EQ(replay(made<hazard_ends>(),
                     "000"
                     "1*"
                     "0*")
                  .failure,
              "");
    expect_holds<hazard_ends>(3);
}

}  // namespace
