// tarn/detail/listed_owner.hpp - listed_owner: how a pool, a region or a heap shows in statistics.
//
// Threads    made and destroyed by one thread; its figures are written by one thread at a time
// Always     in the core's list of owners for as long as it lives; it does not move
// Cost       a lock at each end, held for a few instructions
#pragma once

#include <cstdint>

#include <tarn/tarn.h>

namespace tarn::detail {

class listed_owner {
public:
    /// Both texts must outlive it.
    listed_owner(char const* kind, char const* name) noexcept {
        tarn_owner_enter(&owner_, kind, name);
    }

    listed_owner(listed_owner const&) = delete;
    listed_owner& operator=(listed_owner const&) = delete;

    ~listed_owner() { tarn_owner_leave(&owner_); }

    [[nodiscard]] tarn_owner* get() noexcept { return &owner_; }

    [[nodiscard]] char const* kind() const noexcept { return owner_.kind; }

    [[nodiscard]] char const* name() const noexcept { return owner_.name; }

private:
    tarn_owner owner_;
};

}  // namespace tarn::detail
