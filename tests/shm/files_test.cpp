// files_test - what may lie where a segment is looked for: damage, foreign files, links, wrong
// rights and owners; and file systems without room. Refused with a reason, never a signal.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "shm/geometry.hpp"
#include "shm/layout.hpp"
#include "shm/test_segment.hpp"
#include "support/build.hpp"
#include "support/process.hpp"
#include "support/random.hpp"

namespace {

using tarn::impl::shm::checksum_of;
using tarn::impl::shm::header;
using tarn::test::attach_segment;
using tarn::test::create_segment;
using tarn::test::pool_info_of;
using tarn::test::pool_of;
using tarn::test::random_stream;
using tarn::test::scaled;
using tarn::test::shm_client;
using tarn::test::what_is_wrong;

constexpr unsigned child_seconds = 60;

/// What attaching says; "attached" where it works.
std::string refusal(tarn::test::test_domain const& domain, int& code) {
    tarn_shm_failure failure{};
    shm_client const client = attach_segment(domain, &failure);
    code = failure.code;
    return client != nullptr ? "attached" : failure.text;
}

class shm_files : public testing::Test {
protected:
    void make() { ASSERT_EQ(create_segment(domain_, {pool_of(64, 16), pool_of(900, 4)}), 0); }

    [[nodiscard]] std::string file() const { return domain_.path_of(tarn::test::test_name); }

    void expect_refused(int wanted, char const* why) {
        int code = 0;
        EXPECT_NE(refusal(domain_, code), "") << why;
        EXPECT_EQ(code, wanted) << why;
    }

    tarn::test::test_domain domain_;
};

TEST_F(shm_files, no_byte_of_the_header_may_change) {
    make();
    int const fd = ::open(file().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    header good{};
    ASSERT_EQ(::pread(fd, &good, sizeof good, 0), ssize_t{sizeof good});
    for (std::size_t at = 0; at < sizeof good; ++at) {
        for (unsigned const flip : {1U, 0x80U, 0xffU}) {
            unsigned char byte = 0;
            std::memcpy(&byte, reinterpret_cast<unsigned char const*>(&good) + at, 1);
            byte = static_cast<unsigned char>(byte ^ flip);
            ASSERT_EQ(::pwrite(fd, &byte, 1, static_cast<off_t>(at)), 1);
            int code = 0;
            std::string const text = refusal(domain_, code);
            EXPECT_TRUE(code == TARN_SHM_DAMAGED || code == TARN_SHM_INCOMPATIBLE)
                << "byte " << at << ": " << text;
            EXPECT_NE(text, "");
            ASSERT_EQ(::pwrite(fd, &good, sizeof good, 0), ssize_t{sizeof good});
        }
    }
    ::close(fd);
    shm_client const client = attach_segment(domain_);
    ASSERT_NE(client, nullptr);
    EXPECT_EQ(what_is_wrong(client.get()), "");
}

/// By one who knows how checksums are made.
TEST_F(shm_files, a_forged_header_leads_nowhere_but_into_its_file) {
    make();
    int const fd = ::open(file().c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    header good{};
    ASSERT_EQ(::pread(fd, &good, sizeof good, 0), ssize_t{sizeof good});
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        random_stream random{7};
        for (std::uint64_t i = 0; i < scaled(8000); ++i) {
            header forged = good;
            std::uint64_t const changes = random.between(1, 3);
            for (std::uint64_t change = 0; change < changes; ++change) {
                std::uint64_t word = 0;
                auto* const at = reinterpret_cast<unsigned char*>(&forged) +
                                 random.below(sizeof forged / sizeof word) * sizeof word;
                std::memcpy(&word, at, sizeof word);
                word = random.one_in(2) ? word + random.between(1, 64) - 32
                                        : word ^ (std::uint64_t{1} << random.below(64));
                std::memcpy(at, &word, sizeof word);
            }
            forged.checksum = checksum_of(forged);
            if (::pwrite(fd, &forged, sizeof forged, 0) != ssize_t{sizeof forged}) {
                return 1;
            }
            tarn_shm_failure failure{};
            shm_client const client = attach_segment(domain_, &failure);
            if (client == nullptr) {
                if (failure.code == 0 || failure.text[0] == '\0') {
                    return 2;
                }
                continue;
            }
            tarn_shm_chunk chunk{};
            if (tarn_shm_allocate(client.get(), 40, 0, nullptr, &chunk) == TARN_SHM_OK) {
                std::memset(chunk.payload, 1, chunk.chunk_bytes);
                tarn_shm_release(client.get(), chunk.reference);
            }
            tarn_shm_audit(client.get(), nullptr, nullptr);
        }
        return 0;
    });
    EXPECT_EQ(status, 0);
    ::close(fd);
}

TEST_F(shm_files, files_of_wrong_length) {
    make();

    struct stat whole {};

    ASSERT_EQ(::stat(file().c_str(), &whole), 0);
    for (off_t const length : {off_t{0}, off_t{100}, off_t{1207}, off_t{1208}, off_t{4096},
                               whole.st_size - 1, whole.st_size - 4096, whole.st_size + 1}) {
        ASSERT_EQ(::truncate(file().c_str(), length), 0);
        int code = 0;
        std::string const text = refusal(domain_, code);
        EXPECT_TRUE(code == TARN_SHM_DAMAGED || code == TARN_SHM_INCOMPATIBLE)
            << length << ": " << text;
    }
}

TEST_F(shm_files, what_is_no_segment) {
    std::ofstream{file()} << std::string(10'000, 'x');
    ASSERT_EQ(::chmod(file().c_str(), 0600), 0);
    expect_refused(TARN_SHM_INCOMPATIBLE, "text");
    ASSERT_EQ(::unlink(file().c_str()), 0);
    ASSERT_EQ(::mkdir(file().c_str(), 0700), 0);
    int code = 0;
    EXPECT_NE(refusal(domain_, code), "attached") << "a directory";
    ASSERT_EQ(::rmdir(file().c_str()), 0);
    ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
    expect_refused(TARN_SHM_DENIED, "a pipe");
    ASSERT_EQ(::unlink(file().c_str()), 0);
    int const listening = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::strncpy(address.sun_path, file().c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(listening, reinterpret_cast<sockaddr const*>(&address), sizeof address), 0);
    EXPECT_NE(refusal(domain_, code), "attached") << "a socket";
    ::close(listening);
    ASSERT_EQ(::unlink(file().c_str()), 0);
    expect_refused(TARN_SHM_NOT_FOUND, "nothing");
}

TEST_F(shm_files, links_and_rights_of_others) {
    make();
    ASSERT_EQ(::rename(file().c_str(), domain_.path_of("true").c_str()), 0);
    ASSERT_EQ(::symlink("true", file().c_str()), 0);
    expect_refused(TARN_SHM_DENIED, "a symbolic link");
    ASSERT_EQ(::unlink(file().c_str()), 0);
    ASSERT_EQ(::rename(domain_.path_of("true").c_str(), file().c_str()), 0);
    ASSERT_EQ(::chmod(file().c_str(), 0666), 0);
    expect_refused(TARN_SHM_DENIED, "anybody may write to it");
    ASSERT_EQ(::chmod(file().c_str(), 0600), 0);
    ASSERT_EQ(::chmod(domain_.path(), 0707), 0);
    expect_refused(TARN_SHM_DENIED, "anybody may write to its directory");
    ASSERT_EQ(::chmod(domain_.path(), 0700), 0);
    int code = 0;
    EXPECT_EQ(refusal(domain_, code), "attached");
}

TEST_F(shm_files, a_domain_that_is_a_symbolic_link) {
    make();
    std::string const link = std::string{domain_.path()} + ".link";
    ASSERT_EQ(::symlink(domain_.path(), link.c_str()), 0);
    tarn_shm_attaching asked = TARN_SHM_ATTACHING_DEFAULT;
    tarn_shm_failure failure{};
    asked.domain = link.c_str();
    EXPECT_EQ(tarn_shm_attach(tarn::test::test_name, &asked, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_DENIED) << failure.text;
    ::unlink(link.c_str());
}

TEST_F(shm_files, a_domain_or_a_segment_of_another_user) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root, to be somebody else";
    }
    // A domain by name, which is the user's own: /dev/shm/tarn.0.NAME.
    std::string const name = "test" + std::to_string(::getpid());
    std::string const path = "/dev/shm/tarn.0." + name;
    tarn_shm_pool const pool = pool_of(64, 4);
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    tarn_shm_attaching asked = TARN_SHM_ATTACHING_DEFAULT;
    config.pools = &pool;
    config.pool_count = 1;
    config.domain = name.c_str();
    asked.domain = name.c_str();
    ASSERT_EQ(tarn_shm_create("one", &config, nullptr), TARN_SHM_OK);
    constexpr uid_t somebody = 12'345;
    tarn_shm_failure failure{};
    ASSERT_EQ(::chown((path + "/one").c_str(), somebody, somebody), 0);
    EXPECT_EQ(tarn_shm_attach("one", &asked, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_DENIED) << failure.text;
    ASSERT_EQ(::chown((path + "/one").c_str(), 0, 0), 0);
    ASSERT_EQ(::chown(path.c_str(), somebody, somebody), 0);
    EXPECT_EQ(tarn_shm_attach("one", &asked, &failure), nullptr);
    EXPECT_EQ(failure.code, TARN_SHM_DENIED) << failure.text;
    ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
    EXPECT_EQ(tarn_shm_remove("one", name.c_str(), 0, &failure), TARN_SHM_OK) << failure.text;
    EXPECT_EQ(::rmdir(path.c_str()), 0);
    // And who is somebody else has no right here.
    make();
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        if (::setgid(somebody) != 0 || ::setuid(somebody) != 0) {
            return 1;
        }
        int code = 0;
        refusal(domain_, code);
        return code == TARN_SHM_DENIED ? 0 : 2;
    });
    EXPECT_EQ(status, 0);
}

TEST_F(shm_files, a_process_that_may_not_make_large_files_is_told_so) {
    int const status = tarn::test::run_in_child(child_seconds, [&] {
        rlimit const small{.rlim_cur = 1U << 20, .rlim_max = 1U << 20};
        if (::setrlimit(RLIMIT_FSIZE, &small) != 0) {
            return 1;
        }
        tarn_shm_failure failure{};
        if (create_segment(domain_, {pool_of(4096, 1000)}, &failure) != TARN_SHM_FULL ||
            failure.text[0] == '\0') {
            return 2;
        }
        return create_segment(domain_, {pool_of(4096, 100)}, &failure) == TARN_SHM_OK ? 0 : 3;
    });
    EXPECT_EQ(status, 0);
}

/// In a process whose domain is a file system of 512 KiB. 0: all is well.
int use_small_file_system(tarn::test::test_domain const& domain) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("small", domain.path(), "tmpfs", 0, "size=512k,mode=700") != 0) {
        return 77;
    }
    tarn_shm_failure failure{};
    // All it has in the beginning is there, or it does not come to be.
    if (create_segment(domain, {pool_of(4096, 200)}, &failure) != TARN_SHM_FULL ||
        failure.text[0] == '\0') {
        return 2;
    }
    if (!domain.files().empty()) {
        return 3;
    }
    if (create_segment(domain, {pool_of(4000, 8, 1000)}, &failure) != TARN_SHM_OK) {
        return 4;
    }
    shm_client const client = attach_segment(domain, &failure);
    if (client == nullptr) {
        return 5;
    }
    // It grows until there is no room; what it got may be written.
    std::vector<std::uint64_t> had;
    tarn_shm_chunk chunk{};
    int error = TARN_SHM_OK;
    while ((error = tarn_shm_allocate(client.get(), 4000, 0, nullptr, &chunk)) == TARN_SHM_OK) {
        std::memset(chunk.payload, 0x5a, chunk.chunk_bytes);
        had.push_back(chunk.reference);
        if (had.size() > 1000) {
            return 6;
        }
    }
    if (error != TARN_SHM_FULL || had.size() < 40 ||
        had.size() != pool_info_of(client.get(), 0).ready) {
        return 7;
    }
    // A chunk that comes back can be had.
    if (tarn_shm_release(client.get(), had.back()) != TARN_SHM_OK ||
        tarn_shm_allocate(client.get(), 4000, 0, nullptr, &chunk) != TARN_SHM_OK) {
        return 8;
    }
    had.back() = chunk.reference;
    for (std::uint64_t const each : had) {
        if (tarn_shm_release(client.get(), each) != TARN_SHM_OK) {
            return 9;
        }
    }
    return what_is_wrong(client.get()).empty() ? 0 : 10;
}

TEST_F(shm_files, a_full_file_system_is_an_error_and_no_signal) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root, to mount a small file system";
    }
    int const status =
        tarn::test::run_in_child(child_seconds, [&] { return use_small_file_system(domain_); });
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    if (WEXITSTATUS(status) == 77) {
        GTEST_SKIP() << "no file system can be mounted here";
    }
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
