// doctor/library_search.hpp - finds the file of a needed library as glibc's loader does.
//
// Threads    one per object
// Limits     of the dynamic tokens, $ORIGIN alone; no glibc-hwcaps folders (their libraries differ
//            in speed, not in what they define)
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctor/object.hpp"

namespace tarn::doctor {

/// Names and paths in /etc/ld.so.cache, in its order. Empty when the bytes are none. Pure.
std::vector<std::pair<std::string, std::string>> parse_loader_cache(
    std::span<std::byte const> bytes);

/// The folders of a colon-separated list; an empty entry is the current folder. Pure.
std::vector<std::string> folders_of(std::string_view list, std::string const& origin);

class library_search {
public:
    /// For one program; `library_path`: LD_LIBRARY_PATH, empty where the loader ignores it.
    library_search(object const& program, std::string library_path);

    /// The library that `name`, needed by `requester`, stands for; null when there is none. Stays
    /// valid as long as the search.
    object const* find(std::string const& name, object const& requester);

private:
    object const* open(std::string const& name, std::string const& path);
    object const* search(std::string const& name, object const& requester);

    object const& program_;
    std::string library_path_;
    std::vector<std::pair<std::string, std::string>> cache_;
    std::map<std::string, object const*> found_;  // by name, as the loader loads each name once
    std::deque<object> objects_;                  // addresses stay
};

}  // namespace tarn::doctor
