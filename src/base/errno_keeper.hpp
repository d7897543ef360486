// base/errno_keeper.hpp - errno_keeper: errno stays as it was over a scope.
// Cost       two accesses to thread-local storage
#pragma once

#include <cerrno>

namespace tarn::impl::base {

class errno_keeper {
public:
    errno_keeper() noexcept : kept_{errno} {}

    ~errno_keeper() { errno = kept_; }

    errno_keeper(errno_keeper const&) = delete;
    errno_keeper& operator=(errno_keeper const&) = delete;

private:
    int kept_;
};

}  // namespace tarn::impl::base
