// cli/library.hpp - finds libtarn.so.
#pragma once

#include <string>

namespace tarn::cli {

/// Absolute path of the library to preload: `wanted` unless empty, else beside tarn's own program
/// file or in the library folder of the same installation. `own_path` is argv[0], for systems
/// without /proc. Throws failure, which names the places searched.
std::string find_library(std::string const& wanted, std::string const& own_path);

}  // namespace tarn::cli
