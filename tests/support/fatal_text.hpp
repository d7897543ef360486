// support/fatal_text.hpp - lets death tests see what TARN_CHECK says before it aborts.
#pragma once

#include "base/check.hpp"
#include "platform/linux/linux_os.hpp"

namespace tarn::test {

/// From now on, fatal text goes to stderr.
inline void show_fatal_text() {
    impl::base::set_fatal_writer([](char const* text, unsigned long bytes) noexcept {
        impl::platform::linux_os::write_all(2, text, bytes);
    });
}

}  // namespace tarn::test
