// tarn/detail/watch_scope.hpp - watch_scope: a tarn_watch over a scope, and the text of what it
// saw.
//
// Threads    the one that made it also destroys it; anything else is reported
// Always     stays where it is: the library holds its address
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include <tarn/detail/misuse.hpp>
#include <tarn/tarn.h>

namespace tarn::detail {

class watch_scope {
public:
    explicit watch_scope(unsigned flags = 0, tarn_watch_decide decide = nullptr,
                         void* context = nullptr) {
        watch_.size = sizeof watch_;
        watch_.flags = flags;
        watch_.decide = decide;
        watch_.context = context;
        if (tarn_watch_begin(&watch_) != 0) {
            throw std::runtime_error{"tarn: the library and testing.hpp are of different versions"};
        }
    }

    watch_scope(watch_scope const&) = delete;
    watch_scope& operator=(watch_scope const&) = delete;

    ~watch_scope() {
        if (tarn_watch_end(&watch_) != 0) {
            tarn_report_misuse("testing.hpp: a scope ended in a thread that had not begun it");
        }
    }

    [[nodiscard]] tarn_watch const& watch() const noexcept { return watch_; }

    /// Counts from zero again.
    void reset() noexcept {
        watch_.allocations = 0;
        watch_.reallocations = 0;
        watch_.frees = 0;
        watch_.failures = 0;
        watch_.requested_bytes = 0;
        watch_.allocated_bytes = 0;
        watch_.freed_bytes = 0;
        watch_.peak_live_bytes = 0;
    }

private:
    tarn_watch watch_{};
};

/// "no_alloc_scope 'mixer': malloc of 64 bytes; caller 0x1234". Allocates nothing.
[[nodiscard]] inline misuse_text describe(char const* what, char const* name,
                                          tarn_operation const& asked) noexcept {
    misuse_text text{};
    bool const has_name = name != nullptr && name[0] != '\0';
    auto length = static_cast<std::size_t>(
        std::snprintf(text.data(), text.size(), "%s%s%.100s%s: %s of ", what, has_name ? " '" : "",
                      has_name ? name : "", has_name ? "'" : "", asked.name));
    auto const add = [&text, &length](char const* format, auto value) {
        length += static_cast<std::size_t>(
            std::snprintf(text.data() + length, text.size() - length, format, value));
    };
    switch (asked.kind) {
        case TARN_ALLOCATE:
            add("%zu bytes", asked.bytes);
            break;
        case TARN_RESIZE:
            add("%p", asked.block);
            add(" to %zu bytes", asked.bytes);
            break;
        default:
            add("%p", asked.block);
            break;
    }
    if (asked.caller != nullptr) {
        add("; caller %p", asked.caller);
    }
    return text;
}

}  // namespace tarn::detail
