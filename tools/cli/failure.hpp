// cli/failure.hpp - how `tarn` says that it could not do what was asked.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>

namespace tarn::cli {

// Exit statuses, as env, nohup and timeout use them.
inline constexpr int exit_own_failure = 125;     // tarn itself: wrong usage, no library
inline constexpr int exit_not_executable = 126;  // PROGRAM was found but can't be run
inline constexpr int exit_not_found = 127;

/// A message for the user; main() prints it and ends with exit_own_failure.
class failure : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Writes to stderr; whether anybody reads it changes nothing (fmt::print would throw).
inline void say(std::string const& text) { static_cast<void>(std::fputs(text.c_str(), stderr)); }

}  // namespace tarn::cli
