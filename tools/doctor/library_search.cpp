#include "doctor/library_search.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "doctor/files.hpp"

namespace tarn::doctor {

namespace {

constexpr char const* cache_file = "/etc/ld.so.cache";

// The format of sysdeps/generic/dl-cache.h in glibc, of version 2.32 and newer.
constexpr std::string_view cache_magic = "glibc-ld.so.cache1.1";

struct cache_header {
    std::array<char, 20> magic;
    std::uint32_t entries;
    std::uint32_t strings_bytes;
    std::array<std::uint32_t, 5> unused;
};

struct cache_entry {
    std::int32_t flags;
    std::uint32_t name;
    std::uint32_t path;
    std::uint32_t os_version;
    std::uint64_t hardware;  // not 0: for some processors only
};

static_assert(sizeof(cache_header) == 48);
static_assert(sizeof(cache_entry) == 24);

/// The terminated text at `at`; empty when it does not end.
std::string_view text_at(std::string_view bytes, std::size_t at) {
    std::size_t const end = at < bytes.size() ? bytes.find('\0', at) : std::string_view::npos;
    return end == std::string_view::npos ? std::string_view{} : bytes.substr(at, end - at);
}

std::vector<std::string> standard_folders() {
    std::string const multiarch = TARN_MULTIARCH;
    std::vector<std::string> folders;
    for (std::string const start : {"/lib", "/usr/lib"}) {
        if (!multiarch.empty()) {
            folders.push_back(fmt::format("{}/{}", start, multiarch));
        }
    }
    folders.insert(folders.end(), {"/lib64", "/usr/lib64", "/lib", "/usr/lib"});
    return folders;
}

std::string folder_of(std::string const& path) {
    std::error_code error;
    auto const real = std::filesystem::canonical(path, error);
    return (error ? std::filesystem::path{path} : real).parent_path().native();
}

void replace_all(std::string& text, std::string_view from, std::string const& to) {
    for (std::size_t at = text.find(from); at != std::string::npos;
         at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> parse_loader_cache(
    std::span<std::byte const> bytes) {
    std::string_view const all{reinterpret_cast<char const*>(bytes.data()), bytes.size()};
    // An older format may come first; offsets count from the start of ours.
    std::size_t const start = all.find(cache_magic);
    if (start == std::string_view::npos || all.size() - start < sizeof(cache_header)) {
        return {};
    }
    std::string_view const ours = all.substr(start);
    cache_header header{};
    std::memcpy(&header, ours.data(), sizeof header);
    std::vector<std::pair<std::string, std::string>> entries;
    for (std::size_t i = 0; i < header.entries; ++i) {
        std::size_t const at = sizeof header + i * sizeof(cache_entry);
        if (ours.size() < at + sizeof(cache_entry)) {
            break;
        }
        cache_entry entry{};
        std::memcpy(&entry, ours.data() + at, sizeof entry);
        std::string_view const name = text_at(ours, entry.name);
        std::string_view const path = text_at(ours, entry.path);
        if (entry.hardware == 0 && !name.empty() && !path.empty()) {
            entries.emplace_back(name, path);
        }
    }
    return entries;
}

std::vector<std::string> folders_of(std::string_view list, std::string const& origin) {
    std::vector<std::string> folders;
    for (std::size_t start = 0; !list.empty() && start <= list.size();) {
        std::size_t const end = std::min(list.find(':', start), list.size());
        std::string folder{list.substr(start, end - start)};
        replace_all(folder, "${ORIGIN}", origin);
        replace_all(folder, "$ORIGIN", origin);
        folders.push_back(folder.empty() ? "." : folder);
        start = end + 1;
    }
    return folders;
}

library_search::library_search(object const& program, std::string library_path)
    : program_(program), library_path_(std::move(library_path)) {
    file_bytes const cache{cache_file};
    cache_ = parse_loader_cache(cache.bytes());
}

object const* library_search::find(std::string const& name, object const& requester) {
    auto const known = found_.find(name);
    if (known != found_.end()) {
        return known->second;
    }
    return found_[name] = search(name, requester);
}

object const* library_search::open(std::string const& name, std::string const& path) {
    auto const known = std::find_if(objects_.begin(), objects_.end(), [&](object const& each) {
        return each.path == path || (!each.file.soname.empty() && each.file.soname == name);
    });
    if (known != objects_.end()) {
        return &*known;
    }
    auto opened = read_object(path, path);
    if (!opened || !is_readable(opened->file)) {
        return nullptr;  // as the loader, which goes on past files of other machines
    }
    return &objects_.emplace_back(std::move(*opened));
}

object const* library_search::search(std::string const& name, object const& requester) {
    if (name.find('/') != std::string::npos) {
        return open(name, name);
    }
    std::vector<std::string> folders;
    auto const add = [&folders](std::string_view list, std::string const& owner) {
        auto more = folders_of(list, list.empty() ? "" : folder_of(owner));
        folders.insert(folders.end(), more.begin(), more.end());
    };
    if (requester.file.runpath.empty()) {
        add(requester.file.rpath, requester.path);
        add(program_.file.runpath.empty() ? program_.file.rpath : "", program_.path);
    }
    add(library_path_, program_.path);
    add(requester.file.runpath, requester.path);
    for (std::string const& folder : folders) {
        if (object const* const found = open(name, fmt::format("{}/{}", folder, name))) {
            return found;
        }
    }
    for (auto const& [cached, path] : cache_) {
        object const* const found = cached == name ? open(name, path) : nullptr;
        if (found != nullptr) {
            return found;
        }
    }
    for (std::string const& folder : standard_folders()) {
        if (object const* const found = open(name, fmt::format("{}/{}", folder, name))) {
            return found;
        }
    }
    return nullptr;
}

}  // namespace tarn::doctor
