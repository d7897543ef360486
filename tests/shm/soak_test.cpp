// soak_test - clients do everything at once while a killer ends one after the other: no chunk is
// lost, none is changed under who holds it.
//
// Replay     TARN_SEED=n decides the victims and when their time has come, in steps that each made.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <new>
#include <vector>

#include "shm/test_segment.hpp"
#include "support/build.hpp"
#include "support/pattern.hpp"
#include "support/process.hpp"
#include "support/random.hpp"

namespace {

using tarn::test::attach_segment;
using tarn::test::create_segment;
using tarn::test::info_of;
using tarn::test::pool_of;
using tarn::test::random_stream;
using tarn::test::remove_segment;
using tarn::test::shm_client;
using tarn::test::soaking;
using tarn::test::what_is_wrong;

constexpr unsigned child_seconds = 3600;
constexpr unsigned clients = 6;
constexpr unsigned boxes = 16;

std::uint64_t seed_of_this_run() {
    char const* const given = tarn::test::environment("TARN_SEED");
    return given == nullptr ? static_cast<std::uint64_t>(::time(nullptr))
                            : std::strtoull(given, nullptr, 0);
}

enum class command : std::uint32_t { go_on, leave };

/// Of one client, over all its lives.
struct alignas(64) worker {
    std::atomic<std::uint64_t> steps;
    std::atomic<std::uint32_t> is_waiting;  // for the killer: at what only it can end
};

/// Memory that all processes have, beside the segment.
struct shared_state {
    std::array<std::atomic<std::uint64_t>, boxes> mail;  // references; 0: empty
    std::array<worker, clients> workers;
    std::atomic<command> order;
    std::atomic<std::uint64_t> messages;  // that arrived whole
    std::atomic<std::uint32_t> has_failed;
    std::array<char, 400> failure;
};

class shared_page {
public:
    shared_page()
        : state_{::new (::mmap(nullptr, sizeof(shared_state), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0)) shared_state{}} {}

    shared_page(shared_page const&) = delete;
    shared_page& operator=(shared_page const&) = delete;

    ~shared_page() { ::munmap(state_, sizeof(shared_state)); }

    shared_state* operator->() const { return state_; }

private:
    shared_state* state_;
};

/// The first 24 bytes of a payload say what the rest must be; the rest is a pattern of it.
struct message {
    std::uint64_t sequence;
    std::uint64_t origin;
    std::uint64_t bytes;

    [[nodiscard]] std::uint64_t seed() const {
        return tarn::test::mix(sequence * 64 + origin) + bytes;
    }
};

/// What one client does. Leaves the process when something is wrong.
class client_life {
public:
    client_life(shared_page const& all, tarn::test::test_domain const& domain, unsigned number,
                std::uint64_t seed)
        : all_{&all}, domain_{&domain}, number_{number}, random_{seed} {}

    int run() {
        attach();
        while ((*all_)->order.load(std::memory_order_relaxed) == command::go_on) {
            step();
            (*all_)->workers[number_].steps.fetch_add(1, std::memory_order_relaxed);
        }
        if (number_ % 2 == 0) {
            let_everything_go();
        }
        client_.reset();
        return 0;
    }

private:
    struct held_chunk {
        tarn_shm_chunk chunk;
        unsigned box;  // in which it was laid, or `boxes`
    };

    void check(bool is_right, char const* what, std::uint64_t fact = 0) {
        if (is_right) {
            return;
        }
        if ((*all_)->has_failed.exchange(1, std::memory_order_relaxed) == 0) {
            std::snprintf((*all_)->failure.data(), (*all_)->failure.size(),
                          "client %u, step %llu: %s (%llu)", number_,
                          static_cast<unsigned long long>(
                              (*all_)->workers[number_].steps.load(std::memory_order_relaxed)),
                          what, static_cast<unsigned long long>(fact));
        }
        ::_exit(1);
    }

    void attach() {
        tarn_shm_failure failure{};
        client_ = attach_segment(*domain_, &failure);
        check(client_ != nullptr, failure.text);
    }

    void step() {
        switch (random_.below(16)) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
                allocate_and_send();
                break;
            case 5:
            case 6:
            case 7:
            case 8:
                receive();
                break;
            case 9:
            case 10:
            case 11:
                let_one_go();
                break;
            case 12:
            case 13:
                use_magazine();
                break;
            case 14:
                look_at_all();
                break;
            default:
                do_seldom();
                break;
        }
        while (held_.size() > 12) {
            let_one_go();
        }
    }

    void do_seldom() {
        switch (random_.below(1000)) {  // attaching takes far longer than the rest
            case 0:
                let_everything_go();
                client_.reset();
                attach();
                break;
            case 1:
                client_.reset();  // with all it has
                held_.clear();
                attach();
                break;
            case 2:
            case 3:
            case 4:
            case 5:
                check(tarn_shm_recover(client_.get()) >= 0, "recover");
                break;
            default:
                break;
        }
    }

    void write(tarn_shm_chunk const& chunk, std::uint64_t bytes, std::uint64_t sequence) {
        message const head{.sequence = sequence, .origin = chunk.origin, .bytes = bytes};
        std::memcpy(chunk.payload, &head, sizeof head);
        tarn::test::fill(static_cast<char*>(chunk.payload) + sizeof head, bytes - sizeof head,
                         head.seed());
    }

    void check_contents(tarn_shm_chunk const& chunk) {
        message head{};
        std::memcpy(&head, chunk.payload, sizeof head);
        check(head.sequence == chunk.sequence, "sequence", head.sequence);
        check(head.origin == chunk.origin, "origin", head.origin);
        check(head.bytes == chunk.payload_bytes && head.bytes <= chunk.chunk_bytes, "bytes",
              head.bytes);
        std::size_t const wrong =
            tarn::test::first_wrong(static_cast<char const*>(chunk.payload) + sizeof head,
                                    head.bytes - sizeof head, head.seed());
        check(wrong == tarn::test::intact, "contents, from byte", wrong);
    }

    void allocate_and_send() {
        std::uint64_t const bytes = sizeof(message) + random_.size_up_to(1000);
        held_chunk got{.chunk = {}, .box = boxes};
        tarn_shm_asking const asked{.larger_most = 4, .wait_ms = random_.one_in(8) ? 2U : 0U};
        int const error = tarn_shm_allocate(client_.get(), bytes, 0, &asked, &got.chunk);
        if (error == TARN_SHM_EXHAUSTED) {
            return;
        }
        check(error == TARN_SHM_OK, "allocate", static_cast<std::uint64_t>(error));
        check(got.chunk.payload_bytes == bytes, "bytes of a new chunk", got.chunk.payload_bytes);
        write(got.chunk, bytes, got.chunk.sequence);
        held_.push_back(got);
        send(held_.back());
    }

    /// Into an empty box: it stays held until the box is empty again.
    void send(held_chunk& what) {
        auto const box = static_cast<unsigned>(random_.below(boxes));
        std::uint64_t empty = 0;
        // release: pairs with the acquire of who receives; publishes the contents.
        if ((*all_)->mail[box].compare_exchange_strong(empty, what.chunk.reference,
                                                       std::memory_order_release,
                                                       std::memory_order_relaxed)) {
            what.box = box;
        }
    }

    void receive() {
        auto& box = (*all_)->mail[random_.below(boxes)];
        std::uint64_t reference = box.load(std::memory_order_acquire);
        if (reference == 0) {
            return;
        }
        held_chunk got{.chunk = {}, .box = boxes};
        int const error = tarn_shm_hold(client_.get(), reference, &got.chunk);
        if (error == TARN_SHM_OK) {
            // Held before the box is emptied: its sender has it until then. Unless he died, and
            // the one before him: then holding failed, or it is still the same.
            check_contents(got.chunk);
            (*all_)->messages.fetch_add(1, std::memory_order_relaxed);
            held_.push_back(got);
        } else {
            check(error == TARN_SHM_STALE, "hold", static_cast<std::uint64_t>(error));
        }
        box.compare_exchange_strong(reference, 0, std::memory_order_relaxed);
        if (error == TARN_SHM_OK && random_.one_in(3)) {
            send(held_.back());
        }
    }

    [[nodiscard]] bool is_waited_for(held_chunk const& what) const {
        return what.box < boxes &&
               (*all_)->mail[what.box].load(std::memory_order_relaxed) == what.chunk.reference;
    }

    void let_go(held_chunk const& what) {
        check_contents(what.chunk);
        if (is_waited_for(what)) {
            // Take it back: who holds it by now has it all the same.
            std::uint64_t mine = what.chunk.reference;
            (*all_)->mail[what.box].compare_exchange_strong(mine, 0, std::memory_order_relaxed);
        }
        int const error = tarn_shm_release(client_.get(), what.chunk.reference);
        check(error == TARN_SHM_OK, "release", static_cast<std::uint64_t>(error));
    }

    void let_one_go() {
        if (!held_.empty()) {
            std::size_t const at = random_.below(held_.size());
            let_go(held_[at]);
            held_[at] = held_.back();
            held_.pop_back();
        }
    }

    void let_everything_go() {
        while (!held_.empty()) {
            let_one_go();
        }
    }

    void look_at_all() {
        for (held_chunk const& each : held_) {
            tarn_shm_chunk again{};
            check(tarn_shm_describe(client_.get(), each.chunk.reference, &again) == TARN_SHM_OK,
                  "describe");
            check(again.payload == each.chunk.payload, "payload");
            check_contents(again);
        }
    }

    /// Some chunks for itself: written, looked at, one of them shared, the others given back.
    void use_magazine() {
        std::array<tarn_shm_chunk, 8> chunks{};
        std::array<std::uint64_t, 8> references{};
        std::uint32_t const got =
            tarn_shm_take(client_.get(), static_cast<std::uint32_t>(random_.below(3)),
                          static_cast<std::uint32_t>(random_.between(1, 8)), chunks.data());
        for (std::uint32_t i = 0; i < got; ++i) {
            references[i] = chunks[i].reference;
            tarn::test::fill(chunks[i].payload, chunks[i].chunk_bytes, references[i]);
        }
        for (std::uint32_t i = 0; i < got; ++i) {
            check(tarn::test::first_wrong(chunks[i].payload, chunks[i].chunk_bytes,
                                          references[i]) == tarn::test::intact,
                  "magazine");
        }
        std::uint32_t given = got;
        if (got != 0 && random_.one_in(2)) {
            given = got - 1;
            held_chunk shared{.chunk = {}, .box = boxes};
            std::uint64_t const bytes = chunks[given].chunk_bytes;
            check(tarn_shm_share(client_.get(), references[given], bytes) == TARN_SHM_OK, "share");
            check(tarn_shm_describe(client_.get(), references[given], &shared.chunk) == TARN_SHM_OK,
                  "describe what is shared");
            write(shared.chunk, bytes, shared.chunk.sequence);
            held_.push_back(shared);
            send(held_.back());
        }
        tarn_shm_give(client_.get(), references.data(), given);
    }

    shared_page const* all_;
    tarn::test::test_domain const* domain_;
    unsigned number_;
    random_stream random_;
    shm_client client_;
    std::vector<held_chunk> held_;
};

/// All clients of a test: they end with it, however it ends.
class population {
public:
    population(shared_page const& all, tarn::test::test_domain const& domain, std::uint64_t seed)
        : all_{&all}, domain_{&domain}, seeds_{seed} {
        for (unsigned number = 0; number < clients; ++number) {
            start(number);
        }
    }

    population(population const&) = delete;
    population& operator=(population const&) = delete;

    ~population() {
        for (pid_t const each : processes_) {
            if (each > 0) {
                ::kill(each, SIGKILL);
                tarn::test::wait_for(each);
            }
        }
    }

    [[nodiscard]] pid_t process(unsigned number) const { return processes_[number]; }

    /// Until the client has done so much more. False: it is gone.
    [[nodiscard]] bool wait_for_steps(unsigned number, std::uint64_t more) const {
        auto const& steps = (*all_)->workers[number].steps;
        std::uint64_t const until = steps.load(std::memory_order_relaxed) + more;
        while (steps.load(std::memory_order_relaxed) < until) {
            int status = 0;
            if (::waitpid(processes_[number], &status, WNOHANG) != 0) {
                return false;
            }
            ::sched_yield();
        }
        return true;
    }

    void kill_and_replace(unsigned number) {
        ::kill(processes_[number], SIGKILL);
        tarn::test::wait_for(processes_[number]);
        start(number);
    }

    /// Each ends by itself. True: with success.
    bool end() {
        (*all_)->order.store(command::leave, std::memory_order_relaxed);
        bool is_well = true;
        for (pid_t& each : processes_) {
            is_well = tarn::test::wait_for(each) == 0 && is_well;
            each = -1;
        }
        return is_well;
    }

private:
    void start(unsigned number) {
        std::uint64_t const seed = seeds_.next();
        processes_[number] = tarn::test::start_child(child_seconds, [&] {
            return client_life{*all_, *domain_, number, seed}.run();
        });
    }

    shared_page const* all_;
    tarn::test::test_domain const* domain_;
    random_stream seeds_;
    std::array<pid_t, clients> processes_{};
};

unsigned kills_of_this_run() { return soaking() ? 1000 : tarn::test::is_slow ? 20 : 50; }

class shm_soak : public testing::Test {
protected:
    void SetUp() override {
        if (tarn::test::under_tsan || tarn::test::under_emulation) {
            GTEST_SKIP() << "processes are no threads, and too many for an emulator";
        }
        ASSERT_EQ(create_segment(domain_,
                                 {pool_of(256, 24), pool_of(512, 16, 32, 16), pool_of(1200, 24)}),
                  TARN_SHM_OK);
        watcher_ = attach_segment(domain_);
        ASSERT_NE(watcher_, nullptr);
    }

    tarn::test::test_domain domain_;
    shared_page all_;
    shm_client watcher_;
};

TEST_F(shm_soak, nothing_is_lost_whoever_dies) {
    std::uint64_t const seed = seed_of_this_run();
    std::printf("TARN_SEED=%llu\n", static_cast<unsigned long long>(seed));
    random_stream random{seed};
    unsigned const kills = kills_of_this_run();
    {
        population living{all_, domain_, random.next()};
        for (unsigned i = 0; i < kills && all_->has_failed.load() == 0; ++i) {
            auto const victim = static_cast<unsigned>(random.below(clients));
            ASSERT_TRUE(living.wait_for_steps(victim, random.below(1500))) << all_->failure.data();
            living.kill_and_replace(victim);
            if (random.one_in(4)) {
                EXPECT_GE(tarn_shm_recover(watcher_.get()), 0);
            }
        }
        EXPECT_TRUE(living.end());
    }
    EXPECT_EQ(all_->has_failed.load(), 0U) << all_->failure.data();
    tarn_shm_recover(watcher_.get());
    EXPECT_EQ(what_is_wrong(watcher_.get()), "");
    EXPECT_EQ(info_of(watcher_.get()).clients, 1U);
    EXPECT_GT(all_->messages.load(), kills);
    EXPECT_GT(info_of(watcher_.get()).recoveries, kills / 10) << "who dies is attached";
    std::printf("%u kills, %llu messages arrived, %llu recoveries\n", kills,
                static_cast<unsigned long long>(all_->messages.load()),
                static_cast<unsigned long long>(info_of(watcher_.get()).recoveries));
    watcher_.reset();
    EXPECT_EQ(remove_segment(domain_), TARN_SHM_OK);
    EXPECT_EQ(domain_.files(), std::vector<std::string>{});
}

TEST_F(shm_soak, a_client_that_is_stopped_is_not_dead) {
    std::uint64_t const seed = seed_of_this_run();
    std::printf("TARN_SEED=%llu\n", static_cast<unsigned long long>(seed));
    random_stream random{seed};
    unsigned const rounds = soaking() ? 20 : 5;
    {
        population living{all_, domain_, random.next()};
        for (unsigned round = 0; round < rounds; ++round) {
            auto const stopped = static_cast<unsigned>(random.below(clients));
            ASSERT_TRUE(living.wait_for_steps(stopped, random.below(500))) << all_->failure.data();
            ::kill(living.process(stopped), SIGSTOP);
            int status = 0;
            ASSERT_EQ(::waitpid(living.process(stopped), &status, WUNTRACED),
                      living.process(stopped));
            ASSERT_TRUE(WIFSTOPPED(status));
            if (soaking() && round == 0) {
                ::sleep(60);  // NOLINT(concurrency-mt-unsafe): nobody uses SIGALRM here
            }
            // The others go on, and find nobody dead.
            auto const other = (stopped + 1) % clients;
            ASSERT_TRUE(living.wait_for_steps(other, 300)) << all_->failure.data();
            EXPECT_EQ(tarn_shm_recover(watcher_.get()), 0);
            ::kill(living.process(stopped), SIGCONT);
            ASSERT_TRUE(living.wait_for_steps(stopped, 300)) << all_->failure.data();
        }
        EXPECT_TRUE(living.end());
    }
    EXPECT_EQ(all_->has_failed.load(), 0U) << all_->failure.data();
    EXPECT_EQ(tarn_shm_recover(watcher_.get()), 0);
    EXPECT_EQ(info_of(watcher_.get()).recoveries, 0U);
    EXPECT_EQ(what_is_wrong(watcher_.get()), "");
}

}  // namespace
