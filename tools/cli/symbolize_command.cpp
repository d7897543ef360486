#include "symbolize_command.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>

#include "failure.hpp"
#include "symbolize/dwarf_library.hpp"
#include "symbolize/report_rewriter.hpp"

namespace tarn::cli {

namespace {

constexpr int exit_unresolved = 1;
constexpr int exit_cannot_read = 2;

struct close_file {
    void operator()(std::FILE* file) const noexcept {
        if (file != stdin) {
            std::fclose(file);
        }
    }
};

using open_file = std::unique_ptr<std::FILE, close_file>;

bool is_folder(std::string const& path) {
    std::error_code ignored;
    return std::filesystem::is_directory(path, ignored);
}

/// Reads up to the end of a line, without it. False: there is no more.
bool read_line(std::FILE* from, std::string& line, bool& has_end) {
    line.clear();
    has_end = false;
    for (int character = std::getc(from); character != EOF; character = std::getc(from)) {
        if (character == '\n') {
            has_end = true;
            return true;
        }
        line += static_cast<char>(character);
    }
    return !line.empty();
}

void write(std::string const& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
        throw failure{fmt::format("symbolize: can't write: {}", std::strerror(errno))};
    }
}

void complain(std::string const& what, std::string const& why) {
    say(fmt::format("tarn: symbolize: {}: {}\n", what, why));
}

/// False: it can't be read, which was said.
bool rewrite_file(std::string const& path, symbolize::report_rewriter& rewriter) {
    bool const is_input = path == "-";
    std::string const name = is_input ? "standard input" : path;
    open_file const file{is_input ? stdin : std::fopen(path.c_str(), "re")};
    if (!file || is_folder(path)) {
        complain(name, file ? "is a folder" : std::strerror(errno));
        return false;
    }
    std::string line;
    bool has_end = false;
    while (read_line(file.get(), line, has_end)) {
        if (line.find('\0') != std::string::npos) {
            complain(name, "is no report: it has bytes that are no text");
            return false;
        }
        write(rewriter.rewrite(line) + (has_end ? "\n" : ""));
    }
    if (std::ferror(file.get()) != 0) {
        complain(name, std::strerror(errno));
        return false;
    }
    return true;
}

}  // namespace

void describe(CLI::App& command, symbolize_request& request) {
    command
        .add_option("--debug-dir", request.debug_dirs,
                    "A folder with .build-id/ of debug files, beside /usr/lib/debug; may be given "
                    "several times")
        ->type_name("DIR")
        ->allow_extra_args(false);
    command
        .add_option("--sysroot", request.sysroot,
                    "Where the files of the machine lie that the report comes from")
        ->type_name("DIR");
    command.add_option("FILE", request.files,
                       "Reports, text or JSON lines; none, or -: standard input");
    command.footer(
        "Writes reports again, with functions, files and lines for the addresses in them. A file "
        "is\n"
        "used only if its build id is the one of the report. What can't be resolved stays as it "
        "was;\n"
        "standard error says why, once for each module.\n"
        "Exit status: 0 when all modules could be used; 1 when one could not, or has no debug "
        "information;\n"
        "2 when a report can't be read; 125 for wrong usage.");
}

int run_symbolize(symbolize_request const& request) {
    for (std::string const& dir : request.debug_dirs) {
        if (!is_folder(dir)) {
            throw failure{fmt::format("symbolize: --debug-dir: {} is no folder", dir)};
        }
    }
    if (!request.sysroot.empty() && !is_folder(request.sysroot)) {
        throw failure{fmt::format("symbolize: --sysroot: {} is no folder", request.sysroot)};
    }
    symbolize::load_dwarf_library();
    symbolize::search_places places{.sysroot = request.sysroot, .debug_dirs = request.debug_dirs};
    while (places.sysroot.ends_with('/')) {
        places.sysroot.pop_back();
    }
    bool all_modules = true;
    symbolize::report_rewriter rewriter{places,
                                        [&](std::string const& module, std::string const& reason) {
                                            complain(module, reason);
                                            all_modules = false;
                                        }};
    std::vector<std::string> files = request.files;
    if (files.empty()) {
        files.emplace_back("-");
    }
    bool could_read = true;
    for (std::string const& file : files) {
        could_read = rewrite_file(file, rewriter) && could_read;
    }
    if (std::fflush(stdout) != 0) {
        throw failure{fmt::format("symbolize: can't write: {}", std::strerror(errno))};
    }
    return !could_read ? exit_cannot_read : all_modules ? 0 : exit_unresolved;
}

}  // namespace tarn::cli
