// life_test - what is a death and what is not: fork, exec, closed descriptors, namespaces; how many
// may be attached; segments that are removed in use; processes with other addresses and word sizes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "shm/other_program.hpp"
#include "shm/test_segment.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"

namespace {

using tarn::test::attach_segment;
using tarn::test::client_info_of;
using tarn::test::create_segment;
using tarn::test::die_after;
using tarn::test::faults_of;
using tarn::test::info_of;
using tarn::test::other_program;
using tarn::test::pool_info_of;
using tarn::test::pool_of;
using tarn::test::remove_segment;
using tarn::test::shm_client;
using tarn::test::take_all;
using tarn::test::what_is_wrong;

constexpr unsigned child_seconds = 60;
constexpr char const* client_program = TARN_TEST_SHM_CLIENT;

/// Two processes tell each other when it is their turn.
class meeting {
public:
    meeting() {
        if (::pipe(to_child_) != 0 || ::pipe(to_parent_) != 0) {
            throw std::system_error{errno, std::generic_category()};
        }
    }

    meeting(meeting const&) = delete;
    meeting& operator=(meeting const&) = delete;

    ~meeting() {
        for (int const fd : {to_child_[0], to_child_[1], to_parent_[0], to_parent_[1]}) {
            ::close(fd);
        }
    }

    void tell_parent() const { tell(to_parent_[1]); }

    void tell_child() const { tell(to_child_[1]); }

    void wait_for_child() const { wait(to_parent_[0]); }

    void wait_for_parent() const { wait(to_child_[0]); }

    /// The lowest that a child may close.
    [[nodiscard]] int last() const { return to_parent_[1]; }

private:
    static void tell(int fd) {
        if (::write(fd, "\n", 1) != 1) {
            ::abort();
        }
    }

    static void wait(int fd) {
        char got = 0;
        if (::read(fd, &got, 1) != 1) {
            ::abort();
        }
    }

    int to_child_[2];
    int to_parent_[2];
};

class shm_life : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(create_segment(domain_, {pool_of(64, 16), pool_of(1024, 4)}), TARN_SHM_OK);
        mine_ = attach_segment(domain_);
        ASSERT_NE(mine_, nullptr);
    }

    void end_well() {
        EXPECT_EQ(what_is_wrong(mine_.get()), "");
        EXPECT_EQ(info_of(mine_.get()).clients, 1U);
        mine_.reset();
        EXPECT_EQ(remove_segment(domain_), TARN_SHM_OK);
        EXPECT_EQ(domain_.files(), std::vector<std::string>{});
    }

    [[nodiscard]] std::uint32_t free_small() const { return pool_info_of(mine_.get(), 0).free; }

    tarn::test::test_domain domain_;
    shm_client mine_;
};

TEST_F(shm_life, a_forked_child_has_no_clients) {
    tarn_shm_chunk held{};
    ASSERT_EQ(tarn_shm_allocate(mine_.get(), 10, 0, nullptr, &held), TARN_SHM_OK);
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        tarn_shm_chunk chunk{};
        std::uint64_t const reference = held.reference;
        tarn_shm* const parents = mine_.get();
        int wrong = 0;
        wrong += tarn_shm_allocate(parents, 10, 0, nullptr, &chunk) == TARN_SHM_FORKED ? 0 : 1;
        wrong += tarn_shm_hold(parents, reference, &chunk) == TARN_SHM_FORKED ? 0 : 2;
        wrong += tarn_shm_release(parents, reference) == TARN_SHM_FORKED ? 0 : 4;
        wrong += tarn_shm_recover(parents) == -TARN_SHM_FORKED ? 0 : 8;
        wrong += tarn_shm_take(parents, 0, 1, &chunk) == 0 ? 0 : 16;
        tarn_shm_info info{};
        info.size = sizeof info;
        wrong += tarn_shm_info_get(parents, &info) == TARN_SHM_FORKED ? 0 : 64;
        wrong += tarn_shm_audit(parents, nullptr, nullptr) == -TARN_SHM_FORKED ? 0 : 64;
        wrong += tarn_shm_relative(held.payload) == 0 ? 0 : 64;
        tarn_shm_give(parents, &reference, 1);
        tarn_shm_detach(mine_.release());
        // One of its own: its parent's number stays its parent's.
        shm_client const own = attach_segment(domain_);
        wrong += own != nullptr && tarn_shm_hold(own.get(), reference, &chunk) == TARN_SHM_OK &&
                         tarn_shm_release(own.get(), reference) == TARN_SHM_OK
                     ? 0
                     : 32;
        return wrong;
    });
    EXPECT_EQ(status, 0);
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 0) << "the child detached";
    EXPECT_EQ(tarn_shm_describe(mine_.get(), held.reference, &held), TARN_SHM_OK);
    EXPECT_EQ(tarn_shm_release(mine_.get(), held.reference), TARN_SHM_OK);
    end_well();
}

TEST_F(shm_life, a_parent_that_dies_before_its_child_is_dead) {
    meeting const both;
    pid_t const parent = tarn::test::start_child(child_seconds, [&] {
        shm_client const own = attach_segment(domain_);
        take_all(own.get(), 0);
        tarn::test::start_child(child_seconds, [&] {
            both.tell_parent();
            both.wait_for_parent();
            both.tell_parent();
            return 0;
        });
        ::pause();
        return 0;
    });
    both.wait_for_child();
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 0);
    EXPECT_EQ(free_small(), 0U);
    ::kill(parent, SIGKILL);
    tarn::test::wait_for(parent);
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 1) << "its child still has the mapping";
    both.tell_child();
    both.wait_for_child();
    end_well();
}

TEST_F(shm_life, children_forked_while_a_thread_attaches_do_not_keep_its_life) {
    if (tarn::test::is_slow) {
        GTEST_SKIP() << "no fork beside threads under a sanitizer";
    }
    constexpr int children = 60;
    meeting const both;
    pid_t const parent = tarn::test::start_child(child_seconds, [&] {
        ::setpgid(0, 0);
        std::atomic<bool> stop{false};
        std::thread attaching{[&] {
            while (!stop.load(std::memory_order_relaxed)) {
                shm_client const own = attach_segment(domain_);
            }
        }};
        for (int i = 0; i < children; ++i) {
            pid_t const child = tarn::test::start_child(child_seconds, [&] {
                both.tell_parent();  // fork() has returned in it, too
                ::pause();
                return 0;
            });
            if (child < 0) {
                ::abort();
            }
        }
        ::pause();
        stop.store(true);
        attaching.join();
        return 0;
    });
    for (int i = 0; i < children; ++i) {
        both.wait_for_child();
    }
    ::kill(parent, SIGKILL);
    tarn::test::wait_for(parent);
    tarn_shm_recover(mine_.get());
    EXPECT_EQ(info_of(mine_.get()).clients, 1U);
    // Nor does any child keep the slot's lock while its state says that it is free.
    std::vector<shm_client> all;
    for (unsigned i = 1; i < TARN_SHM_CLIENTS_MAX; ++i) {
        all.push_back(attach_segment(domain_));
        EXPECT_NE(all.back(), nullptr) << i;
    }
    all.clear();
    EXPECT_EQ(what_is_wrong(mine_.get()), "");
    mine_.reset();
    EXPECT_EQ(remove_segment(domain_), TARN_SHM_OK) << "a child still has it attached";
    ::kill(-parent, SIGKILL);
}

TEST_F(shm_life, a_client_that_becomes_another_program_is_dead) {
    other_program const other{client_program, domain_, [&] {
                                  shm_client own = attach_segment(domain_);
                                  take_all(own.get(), 0);
                                  static_cast<void>(own.release());
                              }};
    EXPECT_TRUE(other.ask("base").starts_with("error"));  // it runs
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 1);
    EXPECT_EQ(free_small(), 16U);
    end_well();
}

TEST_F(shm_life, a_program_that_attaches_again_after_exec_does_not_keep_its_former_life) {
    // A slot before its former one is free: it gets that one.
    shm_client first = attach_segment(domain_);
    {
        other_program const other{client_program, domain_, [&] {
                                      shm_client own = attach_segment(domain_);
                                      take_all(own.get(), 0);
                                      static_cast<void>(own.release());
                                  }};
        EXPECT_TRUE(other.ask("base").starts_with("error"));
        first.reset();
        EXPECT_EQ(other.ask("attach"), "ok");
        tarn_shm_recover(mine_.get());
        EXPECT_EQ(free_small(), 16U);
        EXPECT_EQ(info_of(mine_.get()).clients, 2U);
        EXPECT_EQ(other.ask("detach"), "ok");
    }
    end_well();
}

TEST_F(shm_life, an_attachment_finds_all_that_are_dead) {
    shm_client const second = attach_segment(domain_);
    shm_client third = attach_segment(domain_);
    die_after(domain_, [](tarn_shm* client) { take_all(client, 0); });
    third.reset();  // its slot is free, and comes first
    shm_client fresh = attach_segment(domain_);
    EXPECT_EQ(info_of(mine_.get()).recoveries, 1U);
    EXPECT_EQ(free_small(), 16U);
    EXPECT_EQ(client_info_of(mine_.get(), 3).state, 0);
    fresh.reset();
    // And where it gets that very slot, it counts, too.
    die_after(domain_, [](tarn_shm* client) { take_all(client, 1); });
    fresh = attach_segment(domain_);
    EXPECT_EQ(info_of(mine_.get()).recoveries, 2U);
}

TEST_F(shm_life, who_closes_foreign_descriptors_is_not_dead) {
    meeting const both;
    tarn_shm_chunk chunk{};
    pid_t const child = tarn::test::start_child(child_seconds, [&] {
        shm_client own = attach_segment(domain_);
        tarn_shm_chunk held{};
        int wrong = tarn_shm_allocate(own.get(), 10, 0, nullptr, &held);
        ::closefrom(both.last() + 1);
        both.tell_parent();
        both.wait_for_parent();
        wrong += tarn_shm_release(own.get(), held.reference);
        wrong += tarn_shm_allocate(own.get(), 10, 0, nullptr, &held);
        both.tell_parent();
        both.wait_for_parent();
        return wrong;
    });
    both.wait_for_child();
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 0);
    EXPECT_EQ(free_small(), 15U);
    EXPECT_EQ(client_info_of(mine_.get(), 1).state, 1);
    EXPECT_EQ(faults_of(mine_.get()), "");
    // Nor may anybody have its slot.
    shm_client const another = attach_segment(domain_);
    EXPECT_EQ(info_of(another.get()).client, 2U);
    both.tell_child();
    both.wait_for_child();
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 0);
    EXPECT_EQ(free_small(), 15U);
    both.tell_child();
    EXPECT_EQ(tarn::test::wait_for(child), 0);
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 0) << "it detached";
    EXPECT_EQ(free_small(), 16U);
    EXPECT_EQ(tarn_shm_allocate(another.get(), 10, 0, nullptr, &chunk), TARN_SHM_OK);
}

TEST_F(shm_life, so_many_clients_and_no_more) {
    std::vector<shm_client> all;
    for (unsigned i = 1; i < TARN_SHM_CLIENTS_MAX; ++i) {
        all.push_back(attach_segment(domain_));
        ASSERT_NE(all.back(), nullptr);
        EXPECT_EQ(info_of(all.back().get()).client, i);
    }
    tarn_shm_failure failure{};
    EXPECT_EQ(attach_segment(domain_, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_TOO_MANY);
    EXPECT_NE(std::strstr(failure.text, "48"), nullptr) << failure.text;
    // An observer needs no slot.
    shm_client const observer{tarn_shm_observe(tarn::test::test_name, domain_.path(), nullptr)};
    EXPECT_NE(observer, nullptr);
    all.erase(all.begin() + 20);
    EXPECT_NE(attach_segment(domain_), nullptr);
    // Nor is one lost to a death.
    die_after(domain_, [](tarn_shm* /*client*/) {});
    shm_client const last = attach_segment(domain_);
    EXPECT_NE(last, nullptr);
    all.clear();
}

TEST_F(shm_life, all_clients_die_at_once) {
    std::vector<pid_t> processes;
    meeting const both;
    for (unsigned i = 1; i < TARN_SHM_CLIENTS_MAX; ++i) {
        processes.push_back(tarn::test::start_child(child_seconds, [&] {
            shm_client const own = attach_segment(domain_);
            tarn_shm_chunk chunk{};
            tarn_shm_allocate(own.get(), 10, 0, nullptr, &chunk);
            both.tell_parent();
            ::pause();
            return own == nullptr ? 1 : 0;
        }));
    }
    for (std::size_t i = 0; i < processes.size(); ++i) {
        both.wait_for_child();
    }
    for (pid_t const each : processes) {
        ::kill(each, SIGKILL);
    }
    for (pid_t const each : processes) {
        tarn::test::wait_for(each);
    }
    EXPECT_EQ(tarn_shm_recover(mine_.get()), TARN_SHM_CLIENTS_MAX - 1);
    end_well();
}

TEST_F(shm_life, a_client_in_another_pid_namespace_lives_and_dies) {
    if (::geteuid() != 0 || tarn::test::under_tsan) {
        GTEST_SKIP() << "needs root, to make a namespace";
    }
    meeting const both;
    pid_t const outer = tarn::test::start_child(child_seconds, [&] {
        if (::unshare(CLONE_NEWPID) != 0) {
            return 2;
        }
        pid_t const inner = tarn::test::start_child(child_seconds, [&] {
            shm_client const own = attach_segment(domain_);
            take_all(own.get(), 0);
            // Whoever it sees may have any process id there.
            int const found = tarn_shm_recover(own.get());
            both.tell_parent();
            if (found == 0) {
                ::pause();
            }
            return 3;
        });
        both.wait_for_parent();
        ::kill(inner, SIGKILL);
        int const status = tarn::test::wait_for(inner);
        return WIFSIGNALED(status) ? 0 : 4;
    });
    both.wait_for_child();
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 0);
    EXPECT_EQ(free_small(), 0U);
    EXPECT_EQ(client_info_of(mine_.get(), 1).process_id, 1);
    both.tell_child();
    EXPECT_EQ(tarn::test::wait_for(outer), 0);
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 1);
    end_well();
}

TEST_F(shm_life, a_segment_in_use_is_removed_when_asked_twice) {
    tarn_shm_failure failure{};
    EXPECT_EQ(tarn_shm_remove(tarn::test::test_name, domain_.path(), 0, &failure), TARN_SHM_IN_USE);
    EXPECT_NE(failure.text[0], '\0');
    shm_client second = attach_segment(domain_);
    EXPECT_EQ(remove_segment(domain_, tarn::test::test_name, true), TARN_SHM_OK);
    EXPECT_EQ(attach_segment(domain_, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_NOT_FOUND);
    // Both go on, and another of that name may come.
    ASSERT_EQ(create_segment(domain_, {pool_of(64, 16)}), TARN_SHM_OK);
    tarn_shm_chunk chunk{};
    tarn_shm_chunk same{};
    ASSERT_EQ(tarn_shm_allocate(second.get(), 10, 0, nullptr, &chunk), TARN_SHM_OK);
    EXPECT_EQ(tarn_shm_hold(mine_.get(), chunk.reference, &same), TARN_SHM_OK);
    second.reset();
    EXPECT_EQ(tarn_shm_release(mine_.get(), chunk.reference), TARN_SHM_OK);
    EXPECT_EQ(what_is_wrong(mine_.get()), "");
    mine_.reset();
    EXPECT_EQ(domain_.files().size(), 2U) << "the new one's name and id";
    EXPECT_EQ(remove_segment(domain_), TARN_SHM_OK);
    EXPECT_EQ(domain_.files(), std::vector<std::string>{});
}

TEST_F(shm_life, it_lies_elsewhere_in_each_process) {
    tarn_shm_info const here = info_of(mine_.get());
    constexpr std::size_t slack = 1U << 20;
    void* const room =
        ::mmap(nullptr, here.mapped_bytes + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(room, MAP_FAILED);
    ::munmap(room, here.mapped_bytes + slack);
    tarn_shm_attaching asked = TARN_SHM_ATTACHING_DEFAULT;
    asked.domain = domain_.path();
    asked.address = static_cast<std::byte*>(room) + 65536;
    shm_client const second{tarn_shm_attach(tarn::test::test_name, &asked, nullptr)};
    ASSERT_NE(second, nullptr);
    EXPECT_EQ(info_of(second.get()).base, asked.address);
    tarn_shm_failure failure{};
    EXPECT_EQ(tarn_shm_attach(tarn::test::test_name, &asked, &failure), nullptr) << "taken";
    EXPECT_NE(failure.text[0], '\0');
    tarn_shm_chunk first_seen{};
    tarn_shm_chunk second_seen{};
    ASSERT_EQ(tarn_shm_allocate(mine_.get(), 600, 0, nullptr, &first_seen), TARN_SHM_OK);
    tarn::test::fill(first_seen.payload, 600, first_seen.reference);
    ASSERT_EQ(tarn_shm_hold(second.get(), first_seen.reference, &second_seen), TARN_SHM_OK);
    EXPECT_NE(first_seen.payload, second_seen.payload);
    EXPECT_EQ(tarn::test::first_wrong(second_seen.payload, 600, first_seen.reference),
              tarn::test::intact);
    EXPECT_EQ(tarn_shm_relative(first_seen.payload), tarn_shm_relative(second_seen.payload));
    EXPECT_NE(tarn_shm_relative(first_seen.payload), 0U);
    EXPECT_EQ(tarn_shm_release(second.get(), first_seen.reference), TARN_SHM_OK);
    EXPECT_EQ(tarn_shm_release(mine_.get(), first_seen.reference), TARN_SHM_OK);
}

/// All it can do to a segment that the tester has, too.
void work_together(tarn_shm* mine, other_program const& other) {
    ASSERT_EQ(other.ask("attach"), "ok");
    EXPECT_NE(other.ask_number("base"), reinterpret_cast<std::uintptr_t>(info_of(mine).base));
    EXPECT_STREQ(client_info_of(mine, 1).label, "other program");
    for (std::uint64_t const bytes : {1U, 60U, 1000U}) {
        std::uint64_t const reference = other.ask_number("allocate " + std::to_string(bytes));
        tarn_shm_chunk chunk{};
        ASSERT_EQ(tarn_shm_hold(mine, reference, &chunk), TARN_SHM_OK);
        EXPECT_EQ(chunk.payload_bytes, bytes);
        EXPECT_EQ(chunk.origin, 1U);
        EXPECT_EQ(tarn::test::first_wrong(chunk.payload, bytes, reference), tarn::test::intact);
        EXPECT_EQ(other.ask("release", reference), "ok");
        EXPECT_EQ(tarn_shm_release(mine, reference), TARN_SHM_OK);
        ASSERT_EQ(tarn_shm_allocate(mine, bytes, 0, nullptr, &chunk), TARN_SHM_OK);
        tarn::test::fill(chunk.payload, bytes, chunk.reference);
        EXPECT_EQ(other.ask("hold", chunk.reference), "ok");
        EXPECT_EQ(tarn_shm_release(mine, chunk.reference), TARN_SHM_OK);
        EXPECT_EQ(other.ask("check", chunk.reference), "ok");
        EXPECT_EQ(other.ask("release", chunk.reference), "ok");
        EXPECT_EQ(other.ask("hold", chunk.reference).substr(0, 8), "error 13");  // stale
    }
    EXPECT_EQ(other.ask_number("recover"), 0U);
    EXPECT_EQ(other.ask_number("audit"), 0U);
    EXPECT_EQ(other.ask_number("take_all"), 20U);
}

TEST_F(shm_life, another_program_works_with_it) {
    {
        other_program const other{client_program, domain_};
        work_together(mine_.get(), other);
    }
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 1);
    end_well();
}

TEST_F(shm_life, a_program_of_32_bits_works_with_it) {
#ifdef TARN_TEST_SHM_CLIENT_32
    {
        other_program const other{TARN_TEST_SHM_CLIENT_32, domain_};
        if (other.ask("base") == "gone") {
            GTEST_SKIP() << "this kernel runs no programs of 32 bits";
        }
        work_together(mine_.get(), other);
        die_after(domain_, [](tarn_shm* client) { take_all(client, 0); });
        EXPECT_EQ(other.ask_number("recover"), 1U);
    }
    EXPECT_EQ(tarn_shm_recover(mine_.get()), 1);
    end_well();
#else
    GTEST_SKIP() << "this compiler makes no programs of 32 bits";
#endif
}

}  // namespace
