// cli/environment.hpp - variables of this process's environment, which the program inherits.
//
// Threads    tarn has one
#pragma once

#include <cstdlib>
#include <string>

namespace tarn::cli {

/// Empty when the variable is not set.
inline std::string environment_value(char const* name) {
    char const* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): one thread
    return value == nullptr ? std::string{} : std::string{value};
}

inline void set_environment_value(char const* name, std::string const& value) {
    ::setenv(name, value.c_str(), 1);  // NOLINT(concurrency-mt-unsafe): one thread
}

}  // namespace tarn::cli
