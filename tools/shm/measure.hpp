// shm/measure.hpp - how fast shared pools are here, beside what the processor allows.
//
// Threads    one caller; makes processes of its own. A segment without a name, gone afterwards.
// Errors     std::runtime_error, std::system_error
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tarn::shared {

/// Of several batches.
struct measured {
    std::string what;
    std::string unit;
    double median = 0;
    double least = 0;
    double most = 0;
};

struct measuring {
    std::uint64_t rounds = 1'000'000;  // of an operation, in all batches together
    int batches = 15;
};

/// `batch(n)`: n times. Nanoseconds for one.
measured measure(std::string what, measuring const& how,
                 std::function<void(std::uint64_t)> const& batch);

/// The floor (a cache line's way between two processors; an atomic operation that nobody else
/// wants), and then Tarn's operations, alone and with two processes at once.
std::vector<measured> measure_all(measuring const& how);

}  // namespace tarn::shared
