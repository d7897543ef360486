// support/memory_probe.hpp - memory_probe: whether memory may be read or written, without a fault.
#pragma once

#include <unistd.h>

#include <array>

namespace tarn::test {

/// Through a pipe: system calls answer EFAULT where an access would kill.
class memory_probe {
public:
    memory_probe() noexcept : is_open_{::pipe(ends_.data()) == 0} {}

    ~memory_probe() {
        ::close(ends_[0]);
        ::close(ends_[1]);
    }

    memory_probe(memory_probe const&) = delete;
    memory_probe& operator=(memory_probe const&) = delete;

    [[nodiscard]] bool is_open() const noexcept { return is_open_; }

    [[nodiscard]] bool readable(void const* at) const noexcept {
        char drain = 0;
        return ::write(ends_[1], at, 1) == 1 && ::read(ends_[0], &drain, 1) == 1;
    }

private:
    std::array<int, 2> ends_{};
    bool is_open_;
};

}  // namespace tarn::test
