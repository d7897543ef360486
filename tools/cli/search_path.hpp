// cli/search_path.hpp - the file that a shell would run for a name.
//
// Threads    tarn has one
#pragma once

#include <filesystem>
#include <string>

namespace tarn::cli {

/// A name with a slash is itself; another is looked for in PATH. Empty when it is not there.
std::filesystem::path search_path(std::string const& name);

}  // namespace tarn::cli
