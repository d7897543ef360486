// live/live_file.hpp - the live statistics file of one process, mapped: asks it and copies it.
//
// Threads    one
// Always     writes nothing but the two `requests`. The process may stop, die or lie at any moment;
// every
//            wait is bounded, and a seal keeps the mapping from faulting.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "live/figures.hpp"
#include "live/process.hpp"

namespace tarn::live {

using deadline = std::chrono::steady_clock::time_point;

/// The file's memory; unmaps itself.
class mapped_file {
public:
    explicit mapped_file(void* base) : base_(base) {}

    ~mapped_file();

    mapped_file(mapped_file&& from) noexcept : base_(from.base_) { from.base_ = nullptr; }

    mapped_file& operator=(mapped_file&&) = delete;
    mapped_file(mapped_file const&) = delete;
    mapped_file& operator=(mapped_file const&) = delete;

    [[nodiscard]] tarn_live* operator->() const { return static_cast<tarn_live*>(base_); }

    [[nodiscard]] tarn_live& operator*() const { return *static_cast<tarn_live*>(base_); }

    [[nodiscard]] tarn_live_check& check() const {
        return *reinterpret_cast<tarn_live_check*>(static_cast<std::byte*>(base_) +
                                                   TARN_LIVE_CHECK_AT);
    }

private:
    void* base_;
};

class live_file {
public:
    /// Finds, maps and checks the file of `owner`. Throws unavailable.
    explicit live_file(process owner);

    [[nodiscard]] process const& owner() const { return owner_; }

    /// Asks for fresh figures.
    void request();

    /// The figures that answer the last request; those that are there when none has come until
    /// `end`. Throws unavailable: ended without an answer, none were ever taken, they make no
    /// sense.
    [[nodiscard]] figures read(deadline end) const;

    /// Asks for a check of all blocks. Throws unavailable: it does not check.
    void request_check();

    /// What a check that began after the last request has found. Throws unavailable: ended before
    /// it told, no answer until `end`.
    [[nodiscard]] tarn_live_check read_check(deadline end) const;

private:
    void wake() const;

    process owner_;
    mapped_file file_;
    std::uint32_t request_ = 0;
    std::uint32_t check_request_ = 0;
};

/// Milliseconds of CLOCK_MONOTONIC, as in figures::taken_ms.
std::uint64_t now_ms();

}  // namespace tarn::live
