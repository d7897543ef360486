// tarn/detail/misuse.hpp - how the headers say what was done wrong.
//
// Threads    any
// Always     the text names the object, the operation, the pointer and the reason
#pragma once

#include <array>
#include <cstdio>
#include <stdexcept>

#include <tarn/tarn.h>

namespace tarn::detail {

struct misuse {
    char const* what;       // "block_pool"
    char const* name;       // of the object; empty: it has none
    char const* operation;  // "deallocate"
    void const* ptr;
    char const* reason;
};

using misuse_text = std::array<char, 256>;

[[nodiscard]] inline misuse_text describe(misuse const& event) noexcept {
    misuse_text text{};
    bool const has_name = event.name != nullptr && event.name[0] != '\0';
    std::snprintf(text.data(), text.size(), "%s%s%s%s: %s of %p: %s", event.what,
                  has_name ? " '" : "", has_name ? event.name : "", has_name ? "'" : "",
                  event.operation, event.ptr, event.reason);
    return text;
}

/// To the report channel; ends the process unless option on_misuse says otherwise.
[[gnu::cold, gnu::noinline]] inline void report(misuse const& event) noexcept {
    tarn_report_misuse(describe(event).data());
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail(misuse const& event) {
    throw std::invalid_argument{describe(event).data()};
}

}  // namespace tarn::detail
