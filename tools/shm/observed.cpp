#include "shm/observed.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <stdexcept>

namespace tarn::shared {

namespace {

char const* or_null(std::string const& text) { return text.empty() ? nullptr : text.c_str(); }

}  // namespace

observed_segment::observed_segment(std::string const& name, std::string const& domain)
    : name_{name} {
    tarn_shm_failure failure;
    seen_.reset(tarn_shm_observe(name.c_str(), or_null(domain), &failure));
    if (!seen_) {
        throw std::runtime_error{failure.text};
    }
}

tarn_shm_info observed_segment::info() const {
    tarn_shm_info found{};
    found.size = sizeof found;
    static_cast<void>(tarn_shm_info_get(seen_.get(), &found));
    return found;
}

std::vector<tarn_shm_pool_info> observed_segment::pools() const {
    std::vector<tarn_shm_pool_info> all;
    tarn_shm_pool_info found{};
    while (tarn_shm_pool_info_get(seen_.get(), static_cast<std::uint32_t>(all.size()), &found) ==
           0) {
        all.push_back(found);
    }
    return all;
}

std::vector<observed_client> observed_segment::clients() const {
    std::vector<observed_client> all;
    for (std::uint32_t number = 0; number < TARN_SHM_CLIENTS_MAX; ++number) {
        observed_client found{.number = number, .about = {}};
        if (tarn_shm_client_info_get(seen_.get(), number, &found.about) == 0 &&
            found.about.state != 0) {
            all.push_back(found);
        }
    }
    return all;
}

tarn_shm_chunk_info observed_segment::chunk(std::uint32_t pool, std::uint32_t number) const {
    tarn_shm_chunk_info found{};
    if (tarn_shm_chunk_info_get(seen_.get(), pool, number, &found) != 0) {
        throw std::runtime_error{
            fmt::format("segment {}: there is no chunk {}/{}", name_, pool, number)};
    }
    return found;
}

int observed_segment::recover() const {
    int const found = tarn_shm_recover(seen_.get());
    if (found < 0) {
        throw std::runtime_error{fmt::format("segment {}: {}", name_, tarn_shm_error_text(-found))};
    }
    return found;
}

std::vector<std::string> observed_segment::audit() const {
    std::vector<std::string> lines;
    tarn_shm_audit(
        seen_.get(),
        [](void* to, char const* text) {
            static_cast<std::vector<std::string>*>(to)->emplace_back(text);
        },
        &lines);
    return lines;
}

std::vector<std::string> segment_names(std::string const& domain) {
    std::vector<std::string> names;
    tarn_shm_failure failure;
    int const error = tarn_shm_list(
        or_null(domain),
        [](void* to, char const* name) {
            static_cast<std::vector<std::string>*>(to)->emplace_back(name);
            return 0;
        },
        &names, &failure);
    if (error != 0 && error != TARN_SHM_NOT_FOUND) {
        throw std::runtime_error{failure.text};
    }
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace tarn::shared
