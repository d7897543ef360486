// shm/test_segment.hpp - a directory of its own for a test's segments, clients that detach
// themselves, and what must hold of a segment when nobody is at work on it.
#pragma once

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "tarn/shm.h"

#include "support/process.hpp"

namespace tarn::test {

/// Gone with all that is in it at the end. Children that it is forked into leave by _exit().
class test_domain {
public:
    test_domain() {
        if (::mkdtemp(path_.data()) == nullptr) {
            throw std::system_error{errno, std::generic_category(), path_};
        }
    }

    test_domain(test_domain const&) = delete;
    test_domain& operator=(test_domain const&) = delete;

    ~test_domain() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] char const* path() const { return path_.c_str(); }

    [[nodiscard]] std::string path_of(char const* name) const { return path_ + '/' + name; }

    /// Names in it, whatever they are.
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> found;
        for (auto const& each : std::filesystem::directory_iterator{path_}) {
            found.push_back(each.path().filename().string());
        }
        return found;
    }

private:
    std::string path_ = "/dev/shm/tarn-test.XXXXXX";
};

struct detaching {
    void operator()(tarn_shm* client) const noexcept { tarn_shm_detach(client); }
};

using shm_client = std::unique_ptr<tarn_shm, detaching>;

inline constexpr char const* test_name = "pools";

inline int create_segment(test_domain const& in, std::vector<tarn_shm_pool> const& pools,
                          tarn_shm_failure* failure = nullptr, char const* name = test_name) {
    tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
    config.pools = pools.data();
    config.pool_count = pools.size();
    config.domain = in.path();
    return tarn_shm_create(name, &config, failure);
}

inline shm_client attach_segment(test_domain const& in, tarn_shm_failure* failure = nullptr,
                                 char const* name = test_name) {
    tarn_shm_attaching asked = TARN_SHM_ATTACHING_DEFAULT;
    asked.domain = in.path();
    return shm_client{tarn_shm_attach(name, &asked, failure)};
}

inline int remove_segment(test_domain const& in, char const* name = test_name,
                          bool also_in_use = false) {
    return tarn_shm_remove(name, in.path(), also_in_use ? 1 : 0, nullptr);
}

inline tarn_shm_pool pool_of(std::uint64_t bytes, std::uint32_t count, std::uint32_t most = 0,
                             std::uint32_t user_header = 0) {
    return {.chunk_bytes = bytes,
            .count = count,
            .count_most = most,
            .alignment = 0,
            .user_header_bytes = user_header};
}

inline tarn_shm_info info_of(tarn_shm* client) {
    tarn_shm_info info{};
    info.size = sizeof info;
    tarn_shm_info_get(client, &info);
    return info;
}

inline tarn_shm_pool_info pool_info_of(tarn_shm* client, std::uint32_t pool) {
    tarn_shm_pool_info info{};
    tarn_shm_pool_info_get(client, pool, &info);
    return info;
}

inline tarn_shm_client_info client_info_of(tarn_shm* client, std::uint32_t number) {
    tarn_shm_client_info info{};
    tarn_shm_client_info_get(client, number, &info);
    return info;
}

/// The lines of tarn_shm_audit(): empty where nothing is wrong.
inline std::string faults_of(tarn_shm* client) {
    std::string lines;
    tarn_shm_audit(
        client,
        [](void* to, char const* line) {
            *static_cast<std::string*>(to) += line;
            *static_cast<std::string*>(to) += '\n';
        },
        &lines);
    return lines;
}

/// All chunks of a pool that can be had, without growth or recovery.
inline std::vector<std::uint64_t> take_all(tarn_shm* client, std::uint32_t pool) {
    std::vector<std::uint64_t> taken;
    std::array<tarn_shm_chunk, 64> chunks;
    while (std::uint32_t const got = tarn_shm_take(
               client, pool, static_cast<std::uint32_t>(chunks.size()), chunks.data())) {
        for (std::uint32_t i = 0; i < got; ++i) {
            taken.push_back(chunks[i].reference);
        }
        if (taken.size() > 1'000'000) {
            break;  // handed out again and again
        }
    }
    return taken;
}

inline void give_all(tarn_shm* client, std::vector<std::uint64_t> const& taken) {
    tarn_shm_give(client, taken.data(), static_cast<std::uint32_t>(taken.size()));
}

/// What is wrong with a segment where nobody is at work: empty if nothing. `held`: chunks that its
/// living clients have, in all pools.
inline std::string what_is_wrong(tarn_shm* client, std::uint32_t held = 0) {
    std::string wrong = faults_of(client);
    tarn_shm_info const info = info_of(client);
    std::uint32_t missing = 0;
    for (std::uint32_t pool = 0; pool < info.pool_count; ++pool) {
        std::vector<std::uint64_t> const taken = take_all(client, pool);
        std::set<std::uint32_t> numbers;
        for (std::uint64_t const reference : taken) {
            numbers.insert(tarn_shm_reference_number(reference));
        }
        if (numbers.size() != taken.size()) {
            wrong += "pool " + std::to_string(pool) + ": a chunk was handed out twice\n";
        }
        missing += pool_info_of(client, pool).ready - static_cast<std::uint32_t>(numbers.size());
        give_all(client, taken);
    }
    if (missing != held) {
        wrong += std::to_string(missing) + " chunks can't be had, " + std::to_string(held) +
                 " are held\n";
    }
    return wrong + faults_of(client);
}

/// A process attaches the segment, does `what(client)`, and is killed. Its process id.
template <class What>
pid_t die_after(test_domain const& in, What what) {
    pid_t const child = start_child(60, [&] {
        shm_client const mine = attach_segment(in);
        if (mine != nullptr) {
            what(mine.get());
        }
        ::kill(::getpid(), SIGKILL);
        return 1;
    });
    wait_for(child);
    return child;
}

}  // namespace tarn::test
