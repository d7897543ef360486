#include "library.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include <tarn/tarn.h>

#include "environment.hpp"
#include "failure.hpp"
#include "search_path.hpp"

namespace tarn::cli {

namespace {

namespace fs = std::filesystem;

bool is_readable_file(fs::path const& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored) && ::access(path.c_str(), R_OK) == 0;
}

/// The folder of tarn's program file.
fs::path own_folder(std::string const& own_path) {
    std::error_code error;
    fs::path file = fs::read_symlink("/proc/self/exe", error);
    if (error) {
        file = fs::canonical(search_path(own_path), error);
    }
    if (error) {
        throw failure{"cannot tell where tarn lies (no /proc); name the library with --library"};
    }
    return file.parent_path();
}

/// LD_PRELOAD separates by both and knows no quotes.
std::string checked(fs::path const& path) {
    if (path.native().find_first_of(" :") != std::string::npos) {
        throw failure{fmt::format(
            "{}: a path with a space or colon can't be preloaded; use a copy or link elsewhere",
            path.native())};
    }
    return path.native();
}

}  // namespace

std::string find_library(std::string const& wanted, std::string const& own_path) {
    if (!wanted.empty()) {
        if (!is_readable_file(wanted)) {
            throw failure{fmt::format("library {}: no such readable file", wanted)};
        }
        return checked(fs::absolute(wanted).lexically_normal());
    }
    fs::path const here = own_folder(own_path);
    std::vector<fs::path> folders{here, here / TARN_LIB_FROM_BIN, here / "../lib",
                                  here / "../lib64"};
    if (std::string_view{TARN_MULTIARCH} != "") {
        folders.push_back(here / "../lib" / TARN_MULTIARCH);
    }
    std::string searched;
    for (fs::path const& folder : folders) {
        fs::path const clean = folder.lexically_normal();
        // First the name that fits this version of tarn, then the one that compilers use.
        for (std::string const& name :
             {fmt::format("libtarn.so.{}", TARN_VERSION_MAJOR), std::string{"libtarn.so"}}) {
            if (is_readable_file(clean / name)) {
                return checked(clean / name);
            }
        }
        if (searched.find(" " + clean.native() + ",") == std::string::npos) {
            searched += " " + clean.native() + ",";
        }
    }
    searched.pop_back();
    throw failure{
        fmt::format("libtarn.so not found; looked in{}. Name it with --library", searched)};
}

}  // namespace tarn::cli
