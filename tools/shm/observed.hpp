// shm/observed.hpp - observed_segment: a shared segment as one sees it who only looks.
//
// Threads    one at a time
// Errors     std::runtime_error with the library's line of text
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <tarn/shm.h>

namespace tarn::shared {

struct observed_client {
    std::uint32_t number;
    tarn_shm_client_info about;
};

class observed_segment {
public:
    /// `domain` empty: the user's own.
    observed_segment(std::string const& name, std::string const& domain);

    [[nodiscard]] tarn_shm_info info() const;
    [[nodiscard]] std::vector<tarn_shm_pool_info> pools() const;

    /// Those that are not free.
    [[nodiscard]] std::vector<observed_client> clients() const;

    /// Throws where there is no such chunk.
    [[nodiscard]] tarn_shm_chunk_info chunk(std::uint32_t pool, std::uint32_t number) const;

    /// The number of dead clients cleared away. Throws where we may not write.
    [[nodiscard]] int recover() const;

    /// A line for each fault.
    [[nodiscard]] std::vector<std::string> audit() const;

private:
    struct closing {
        void operator()(tarn_shm* seen) const noexcept { tarn_shm_detach(seen); }
    };

    std::unique_ptr<tarn_shm, closing> seen_;
    std::string name_;
};

/// Of a domain, in alphabetic order; none where the domain is not there.
std::vector<std::string> segment_names(std::string const& domain);

}  // namespace tarn::shared
