#include "compare/allocator.hpp"

#include <fmt/core.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <memory>
#include <regex>
#include <set>
#include <string_view>
#include <system_error>

#include <tarn/tarn.h>

#include "cli/failure.hpp"

namespace tarn::compare {

namespace {

namespace fs = std::filesystem;
using cli::failure;

struct peer {
    std::string_view name;
    std::string_view file;
    std::string_view package;  // of Debian 12
};

constexpr std::array peers{
    peer{"mimalloc", "libmimalloc.so.2", "libmimalloc2.0"},
    peer{"jemalloc", "libjemalloc.so.2", "libjemalloc2"},
    peer{"tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"},
    peer{"tbbmalloc", "libtbbmalloc_proxy.so.2", "libtbbmalloc2"},
};

/// The library as the dynamic linker would find it, without its cache; empty when there is none.
std::string find_system_library(std::string_view file) {
    for (std::string const& folder :
         {std::string{"/usr/lib/"} + TARN_MULTIARCH, std::string{"/lib/"} + TARN_MULTIARCH,
          std::string{"/usr/local/lib"}, std::string{"/usr/lib64"}, std::string{"/lib64"},
          std::string{"/usr/lib"}}) {
        fs::path const path = fs::path{folder} / file;
        if (::access(path.c_str(), R_OK) == 0) {
            return path.native();
        }
    }
    return {};
}

/// Package and version of an installed file, or nothing where dpkg does not know it.
std::string package_of(std::string const& path) {
    if (path.find_first_of("'\\") != std::string::npos) {
        return {};
    }
    std::string const command = fmt::format(
        "p=$(dpkg-query -S '{}' 2>/dev/null) && "
        "dpkg-query -W -f '${{Package}} ${{Version}}' \"${{p%%: *}}\" 2>/dev/null",
        path);
    std::unique_ptr<FILE, int (*)(FILE*)> const pipe{::popen(command.c_str(), "re"), ::pclose};
    std::string text;
    if (pipe) {
        std::array<char, 256> part{};
        while (std::fgets(part.data(), part.size(), pipe.get()) != nullptr) {
            text += part.data();
        }
    }
    return text;
}

std::string version_of(std::string const& library) {
    std::error_code error;
    fs::path const real = fs::canonical(library, error);
    std::string const package = error ? "" : package_of(real.native());
    return package.empty() ? fs::path{library}.filename().native() : package;
}

allocator glibc() {
    // Preloaded all the same: some packaged programs are linked with another malloc.
    return {"glibc",
            find_system_library("libc.so.6"),
            {},
            std::string{"glibc "} + ::gnu_get_libc_version()};
}

allocator named(std::string const& name, std::vector<allocator> const& more,
                std::string const& tarn_library) {
    for (allocator const& given : more) {
        if (given.name == name) {
            return given;
        }
    }
    if (name == "own") {
        return {"own", "", {}, "the program's own"};
    }
    if (name == "glibc") {
        return glibc();
    }
    if (name == "tarn") {
        return {"tarn",
                tarn_library,
                {},
                fmt::format("tarn {}.{}.{}", TARN_VERSION_MAJOR, TARN_VERSION_MINOR,
                            TARN_VERSION_PATCH)};
    }
    for (peer const& known : peers) {
        if (known.name == name) {
            std::string const path = find_system_library(known.file);
            if (path.empty()) {
                throw failure{fmt::format("allocator {}: {} is not installed (Debian package {})",
                                          name, known.file, known.package)};
            }
            return {name, path, {}, version_of(path)};
        }
    }
    throw failure{fmt::format(
        "unknown allocator '{}'; known are own, glibc, tarn, mimalloc, jemalloc, tcmalloc, "
        "tbbmalloc and what --lib names",
        name)};
}

}  // namespace

std::vector<std::string> split_list(std::string const& text) {
    std::vector<std::string> words;
    for (std::size_t begin = 0; begin <= text.size();) {
        std::size_t const end = std::min(text.find(',', begin), text.size());
        if (end != begin) {
            words.push_back(text.substr(begin, end - begin));
        }
        begin = end + 1;
    }
    return words;
}

allocator parse_allocator(std::string const& text) {
    auto const complain = [&text](std::string const& what) {
        throw failure{fmt::format("--lib {}: {}", text, what)};
    };
    std::size_t const path_end = std::min(text.find(','), text.size());
    std::size_t const equals = text.find('=');
    if (equals == 0 || equals >= path_end || equals + 1 == path_end) {
        complain("not of the form name=path.so[,ENV=VALUE]");
    }
    allocator result;
    result.name = text.substr(0, equals);
    std::string const path = text.substr(equals + 1, path_end - equals - 1);
    std::error_code error;
    if (!fs::is_regular_file(path, error) || ::access(path.c_str(), R_OK) != 0) {
        complain(path + ": no such readable file");
    }
    result.library = fs::absolute(path).lexically_normal().native();
    if (result.library.find_first_of(" :") != std::string::npos) {
        complain("a path with a space or colon can't be preloaded");
    }
    std::string const settings = text.substr(path_end);
    std::regex const name{",([A-Z_][A-Z0-9_]*)="};
    std::sregex_iterator const end;
    std::sregex_iterator found{settings.begin(), settings.end(), name};
    if (!settings.empty() && (found == end || found->position() != 0)) {
        complain(fmt::format("'{}' is not of the form ENV=VALUE", settings.substr(1)));
    }
    for (; found != end; ++found) {
        auto const begin = static_cast<std::size_t>(found->position() + found->length());
        auto const next = std::next(found);
        auto const stop =
            next == end ? settings.size() : static_cast<std::size_t>(next->position());
        result.environment.emplace_back((*found)[1].str(), settings.substr(begin, stop - begin));
    }
    result.version = version_of(result.library);
    return result;
}

std::vector<allocator> find_allocators(std::string const& names, std::vector<allocator> const& more,
                                       std::string const& tarn_library,
                                       std::vector<std::string>& notes) {
    std::vector<allocator> result;
    if (names.empty()) {
        result.push_back(glibc());
        result.push_back(named("tarn", {}, tarn_library));
        for (peer const& known : peers) {
            if (find_system_library(known.file).empty()) {
                notes.push_back(fmt::format("{} is left out: not installed (Debian package {})",
                                            known.name, known.package));
            } else {
                result.push_back(named(std::string{known.name}, {}, tarn_library));
            }
        }
        result.insert(result.end(), more.begin(), more.end());
    } else {
        for (std::string const& name : split_list(names)) {
            result.push_back(named(name, more, tarn_library));
        }
    }
    if (result.empty()) {
        throw failure{fmt::format("--allocators '{}' names none", names)};
    }
    for (allocator const& given : more) {
        if (std::none_of(result.begin(), result.end(),
                         [&](allocator const& one) { return one.name == given.name; })) {
            throw failure{fmt::format("--lib {}: --allocators does not name it", given.name)};
        }
    }
    std::set<std::string> seen;
    for (allocator const& one : result) {
        if (!seen.insert(one.name).second) {
            throw failure{fmt::format("allocator {} is named twice", one.name)};
        }
    }
    return result;
}

}  // namespace tarn::compare
