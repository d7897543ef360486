// tarn/limits.hpp - limits on the memory held for blocks, and a listener to what is scarce.
//
// Threads    any
// Source     tarn_limits, tarn_pressure_listen() in tarn/tarn.h say what is counted, and when
// Errors     std::invalid_argument for what tarn.h calls EINVAL
#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <new>
#include <stdexcept>
#include <utility>

#include <tarn/tarn.h>

namespace tarn {

/// In bytes; 0: none.
struct limits {
    std::uint64_t soft_bytes = 0;
    std::uint64_t hard_bytes = 0;
    std::uint64_t reserve_bytes = 0;  // of hard_bytes; 0: chosen by the library

    [[nodiscard]] static limits current() noexcept {
        tarn_limits now{};
        now.size = sizeof now;
        tarn_limits_get(&now);
        return {now.soft_bytes, now.hard_bytes, now.reserve_bytes};
    }

    void apply() const {
        tarn_limits const wanted{sizeof(tarn_limits), soft_bytes, hard_bytes, reserve_bytes};
        if (tarn_limits_set(&wanted) != 0) {
            throw std::invalid_argument{
                "tarn::limits: soft_bytes or reserve_bytes above hard_bytes"};
        }
    }
};

/// Calls a function when memory is scarce, as long as it lives. The function may allocate and free,
/// but not throw, nor wait for a thread that allocates. The destructor waits for a call that runs.
class pressure_listener {
public:
    using function = std::function<void(tarn_pressure const&)>;

    /// `kinds`: of tarn_pressure_kind, added up. std::bad_alloc also where there are 16 listeners
    /// already. Where nothing tells of the system's pressure, hears_system() is false.
    pressure_listener(unsigned kinds, function call) : call_{std::move(call)} {
        switch (tarn_pressure_listen(kinds, &forward, this)) {
            case 0:
                hears_system_ = (kinds & TARN_PRESSURE_SYSTEM) != 0;
                break;
            case EAGAIN:
                break;
            case ENOMEM:
                throw std::bad_alloc{};
            default:
                throw std::invalid_argument{"tarn::pressure_listener: unknown kind"};
        }
    }

    pressure_listener(pressure_listener const&) = delete;
    pressure_listener& operator=(pressure_listener const&) = delete;

    ~pressure_listener() { tarn_pressure_unlisten(&forward, this); }

    [[nodiscard]] bool hears_system() const noexcept { return hears_system_; }

private:
    static void forward(tarn_pressure const* event, void* self) noexcept {
        static_cast<pressure_listener*>(self)->call_(*event);
    }

    function call_;
    bool hears_system_ = false;
};

}  // namespace tarn
