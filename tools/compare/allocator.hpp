// compare/allocator.hpp - a malloc to compare: a library to preload, and where to find the peers.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tarn::compare {

struct allocator {
    std::string name;     // the column's heading
    std::string library;  // absolute path; empty: nothing is preloaded
    std::vector<std::pair<std::string, std::string>> environment;  // variables to set, and values
    std::string version;  // what is known of it: its package and version, else its file's name
};

/// "name=path.so[,ENV=VALUE]...", as `--lib` takes it. Names of variables are in capitals; a comma
/// that no such name and = follow belongs to the value before it. Throws cli::failure, which names
/// the text.
allocator parse_allocator(std::string const& text);

/// The allocators that `names` lists, separated by commas: `own` (nothing preloaded), `glibc`,
/// `tarn`, a packaged peer, or a name of `more`. An empty list: glibc, tarn, the peers that are
/// installed, and `more`. Adds a line to `notes` for each peer left out. Throws cli::failure.
///
/// @param tarn_library   absolute path of libtarn.so
std::vector<allocator> find_allocators(std::string const& names, std::vector<allocator> const& more,
                                       std::string const& tarn_library,
                                       std::vector<std::string>& notes);

/// The words between commas.
std::vector<std::string> split_list(std::string const& text);

}  // namespace tarn::compare
