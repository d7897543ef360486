// doctor/surroundings.hpp - environment variables and files that decide on a preload.
//
// Threads    one
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/diagnosis.hpp"

namespace tarn::doctor {

/// What the loader is told to load first.
struct preload_settings {
    std::vector<std::string> by_variable;  // LD_PRELOAD
    std::vector<std::string> by_file;      // /etc/ld.so.preload

    /// In the loader's order; in secure mode it ignores paths in the variable.
    [[nodiscard]] std::vector<std::string> in_effect(bool is_secure) const;
};

using variable_lookup = std::function<std::string(char const* name)>;

/// `root`: prefix of the file's path.
preload_settings read_preload_settings(variable_lookup const& value, std::string const& root);

/// The variables that matter and are set.
std::vector<fact> describe_environment(variable_lookup const& value);

}  // namespace tarn::doctor
