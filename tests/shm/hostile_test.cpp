// hostile_test - a peer who may write to a segment writes anything to all that lies behind its
// header: others get errors and spoilt payloads, but no crash, no endless loop, no chunk outside.
//
// Replay     TARN_SEED=n
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "shm/test_segment.hpp"
#include "support/build.hpp"
#include "support/process.hpp"
#include "support/random.hpp"

namespace {

using tarn::test::attach_segment;
using tarn::test::create_segment;
using tarn::test::info_of;
using tarn::test::pool_of;
using tarn::test::random_stream;
using tarn::test::shm_client;

constexpr unsigned child_seconds = 110;  // an endless loop ends then

std::uint64_t seed_of_this_run() {
    char const* const given = tarn::test::environment("TARN_SEED");
    return given == nullptr ? std::random_device{}() : std::strtoull(given, nullptr, 0);
}

std::uint64_t mutations_of_this_run() {
    std::uint64_t const here = tarn::test::under_asan ? 1'000'000
                               : tarn::test::is_slow  ? 20'000
                                                      : 200'000;
    return tarn::test::soaking() ? here * 10 : here;
}

/// The whole file, mapped by one who keeps no rule.
class raw_segment {
public:
    explicit raw_segment(tarn::test::test_domain const& in) {
        int const fd = ::open(in.path_of(tarn::test::test_name).c_str(), O_RDWR | O_CLOEXEC);

        struct stat status {};

        ::fstat(fd, &status);
        bytes_ = static_cast<std::size_t>(status.st_size);
        void* const got = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        base_ = static_cast<std::byte*>(got);
        ::close(fd);
    }

    raw_segment(raw_segment const&) = delete;
    raw_segment& operator=(raw_segment const&) = delete;

    ~raw_segment() { ::munmap(base_, bytes_); }

    [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::size_t at) const {
        return std::atomic_ref{
            *reinterpret_cast<std::uint64_t*>(base_ + at * sizeof(std::uint64_t))};
    }

    [[nodiscard]] std::byte* base() const { return base_; }

    [[nodiscard]] std::size_t words() const { return bytes_ / sizeof(std::uint64_t); }

private:
    std::byte* base_ = nullptr;
    std::size_t bytes_ = 0;
};

class mutator {
public:
    mutator(raw_segment const& of, std::uint64_t control_bytes, std::uint64_t seed)
        : of_{&of},
          first_{static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / 8},
          control_end_{control_bytes / 8},
          random_{seed} {}

    void mutate() {
        // Some in the headers of chunks.
        std::size_t const at = random_.one_in(8) ? random_.between(control_end_, of_->words() - 1)
                                                 : random_.between(first_, control_end_ - 1);
        auto const word = of_->word(at);
        std::uint64_t const was = word.load(std::memory_order_relaxed);
        word.store(changed(was), std::memory_order_relaxed);
    }

private:
    std::uint64_t changed(std::uint64_t was) {
        switch (random_.below(7)) {
            case 0:
                return random_.next();
            case 1:
                return 0;
            case 2:
                return ~std::uint64_t{0};
            case 3:
                return was + 1;
            case 4:
                return of_->word(random_.between(first_, control_end_ - 1))
                    .load(std::memory_order_relaxed);
            case 5:
                return was ^ (std::uint64_t{1} << random_.below(48));  // a holder
            default:
                return was ^ (std::uint64_t{1} << random_.below(64));
        }
    }

    raw_segment const* of_;
    std::size_t first_;  // behind the header
    std::size_t control_end_;
    random_stream random_;
};

/// Calls everything there is. wrong(): an answer that none should be.
class victim {
public:
    victim(tarn::test::test_domain const& domain, std::uint64_t seed)
        : domain_{&domain}, random_{seed} {
        attach();
    }

    [[nodiscard]] char const* wrong() const { return wrong_; }

    [[nodiscard]] bool is_attached() const { return client_ != nullptr; }

    /// May fail: all slots may look as if they were owned.
    void attach() {
        tarn_shm_failure failure{};
        client_ = attach_segment(*domain_, &failure);
        expect(client_ != nullptr || (failure.code != 0 && failure.text[0] != '\0'), "attach");
    }

    void step() {
        tarn_shm* const by = client_.get();
        tarn_shm_chunk chunk{};
        switch (random_.below(24)) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4: {
                tarn_shm_asking const asked{.larger_most = 4,
                                            .wait_ms = random_.one_in(200) ? 1U : 0U};
                std::uint64_t const bytes = random_.size_up_to(5000);
                if (succeeds(tarn_shm_allocate(by, bytes, 0, &asked, &chunk))) {
                    keep(chunk);
                }
                break;
            }
            case 5:
            case 6:
            case 7:
                use_magazine();
                break;
            case 8:
            case 9:
            case 10:
                if (succeeds(tarn_shm_hold(by, some_reference(), &chunk))) {
                    keep(chunk);
                }
                break;
            case 11:
            case 12:
            case 13:
            case 14:
            case 15:
            case 16:
                succeeds(tarn_shm_release(by, some_reference()));
                break;
            case 17:
            case 18:
                if (succeeds(tarn_shm_describe(by, some_reference(), &chunk))) {
                    check_place(chunk);
                }
                break;
            case 19:
                succeeds(tarn_shm_share(by, some_reference(), random_.next()));
                break;
            case 20:
                look();
                break;
            case 21:
                find_pointers();
                break;
            default:
                do_seldom();
                break;
        }
        if (known_.size() > 100) {
            known_.erase(known_.begin(), known_.begin() + 50);
        }
    }

private:
    void expect(bool is_right, char const* what) {
        if (!is_right && wrong_ == nullptr) {
            wrong_ = what;
        }
    }

    /// True: success.
    bool succeeds(int code) {
        expect(code >= 0 && code <= TARN_SHM_SYSTEM, "an error that there is not");
        return code == TARN_SHM_OK;
    }

    void check_place(tarn_shm_chunk const& chunk) {
        tarn_shm_info const info = info_of(client_.get());
        auto const* const base = static_cast<std::byte const*>(info.base);
        auto const* const payload = static_cast<std::byte const*>(chunk.payload);
        expect(payload >= base + info.control_bytes &&
                   payload + chunk.chunk_bytes <= base + info.mapped_bytes,
               "a chunk outside of the segment");
        expect(chunk.payload_bytes <= chunk.chunk_bytes, "more payload than room");
        expect(chunk.origin <= TARN_SHM_CLIENTS_MAX, "origin");
    }

    void keep(tarn_shm_chunk const& chunk) {
        check_place(chunk);
        std::memset(chunk.payload, 0x77, chunk.chunk_bytes);
        if (chunk.user_header != nullptr) {
            std::memset(chunk.user_header, 0x66, 16);
        }
        known_.push_back(chunk.reference);
    }

    std::uint64_t some_reference() {
        std::uint64_t const any = random_.next();
        if (known_.empty() || random_.one_in(50)) {
            return any;
        }
        std::uint64_t const one = known_[random_.below(known_.size())];
        return random_.one_in(10) ? one ^ (any & 0xfffff) : one;
    }

    void use_magazine() {
        std::array<tarn_shm_chunk, 64> chunks{};
        std::array<std::uint64_t, 64> references{};
        std::uint32_t const got =
            tarn_shm_take(client_.get(), static_cast<std::uint32_t>(random_.below(4)),
                          static_cast<std::uint32_t>(random_.below(80)), chunks.data());
        expect(got <= 64, "more than can be taken");
        for (std::uint32_t i = 0; i < got; ++i) {
            keep(chunks[i]);
            references[i] = chunks[i].reference;
        }
        tarn_shm_give(client_.get(), references.data(), got);
    }

    void look() {
        tarn_shm* const by = client_.get();
        tarn_shm_pool_info pool{};
        tarn_shm_client_info client{};
        tarn_shm_chunk_info chunk{};
        auto const any = static_cast<std::uint32_t>(random_.below(60));
        succeeds(tarn_shm_pool_info_get(by, any % 4, &pool));
        succeeds(tarn_shm_client_info_get(by, any, &client));
        expect(::strnlen(client.label, sizeof client.label) < sizeof client.label, "label");
        succeeds(tarn_shm_chunk_info_get(by, any % 4, any, &chunk));
    }

    void find_pointers() {
        std::uint64_t const bytes = random_.below(10'000);
        std::uint64_t const relative =
            tarn_shm_relative(static_cast<std::byte const*>(info_of(client_.get()).base) + bytes);
        void* const again = tarn_shm_absolute(relative, 1, 1);
        expect(tarn_shm_relative(again) == relative, "a relative pointer");
    }

    void do_seldom() {
        switch (random_.below(400)) {
            case 0:
                client_.reset();
                known_.clear();
                attach();
                break;
            case 1:
                expect(tarn_shm_audit(client_.get(), nullptr, nullptr) >= 0, "audit");
                break;
            case 2:
            case 3:
                expect(tarn_shm_recover(client_.get()) >= 0, "recover");
                break;
            default:
                break;
        }
    }

    tarn::test::test_domain const* domain_;
    random_stream random_;
    shm_client client_;
    std::vector<std::uint64_t> known_;
    char const* wrong_ = nullptr;
};

class shm_hostile : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(create_segment(domain_, {pool_of(64, 70), pool_of(512, 16, 64, 16),
                                           pool_of(4096, 8, 0, 100)}),
                  TARN_SHM_OK);
        shm_client const look = attach_segment(domain_);
        ASSERT_NE(look, nullptr);
        control_bytes_ = info_of(look.get()).control_bytes;
    }

    static int report(victim const& of, std::uint64_t at) {
        if (of.wrong() == nullptr) {
            return 0;
        }
        std::printf("after %llu mutations: %s\n", static_cast<unsigned long long>(at), of.wrong());
        std::fflush(stdout);
        return 1;
    }

    tarn::test::test_domain domain_;
    std::uint64_t control_bytes_ = 0;
};

TEST_F(shm_hostile, whatever_stands_there_between_two_calls) {
    std::uint64_t const seed = seed_of_this_run();
    SCOPED_TRACE(testing::Message() << "TARN_SEED=" << seed);
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        random_stream seeds{seed};
        raw_segment const raw{domain_};
        std::vector<std::byte> const fresh{raw.base(), raw.base() + control_bytes_};
        mutator peer{raw, control_bytes_, seeds.next()};
        victim calling{domain_, seeds.next()};
        std::uint64_t const mutations = mutations_of_this_run();
        for (std::uint64_t i = 0; i < mutations && calling.wrong() == nullptr;) {
            // Damage adds up, up to where nothing works any more.
            if (i % 4096 < 8 || !calling.is_attached()) {
                std::memcpy(raw.base() + 4096, fresh.data() + 4096, control_bytes_ - 4096);
                while (!calling.is_attached()) {
                    calling.attach();
                }
            }
            for (std::uint64_t more = seeds.between(1, 8); more > 0; --more, ++i) {
                peer.mutate();
            }
            calling.step();
        }
        return report(calling, mutations);
    });
    EXPECT_EQ(status, 0) << (WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                                 : "");
}

TEST_F(shm_hostile, whatever_changes_meanwhile) {
    std::uint64_t const seed = seed_of_this_run();
    SCOPED_TRACE(testing::Message() << "TARN_SEED=" << seed);
    random_stream seeds{seed};
    std::uint64_t const of_peer = seeds.next();
    std::uint64_t const of_victim = seeds.next();
    raw_segment const raw{domain_};
    std::vector<std::byte> const fresh{raw.base(), raw.base() + control_bytes_};
    pid_t const peer = tarn::test::start_child(child_seconds, [&] {
        mutator writing{raw, control_bytes_, of_peer};
        for (std::uint64_t i = 0;; ++i) {
            if (i % 4096 == 0) {
                std::memcpy(raw.base() + 4096, fresh.data() + 4096, control_bytes_ - 4096);
            }
            writing.mutate();
        }
        return 0;
    });
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        victim calling{domain_, of_victim};
        std::uint64_t const steps = mutations_of_this_run() / (tarn::test::under_asan ? 100 : 10);
        for (std::uint64_t i = 0; i < steps && calling.wrong() == nullptr; ++i) {
            if (calling.is_attached()) {
                calling.step();
            } else {
                calling.attach();
            }
        }
        return report(calling, 0);
    });
    ::kill(peer, SIGKILL);
    tarn::test::wait_for(peer);
    EXPECT_EQ(status, 0) << (WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                                 : "");
}

}  // namespace
