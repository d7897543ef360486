#include "symbolize/module_symbols.hpp"

#include <cxxabi.h>
#include <dwarf.h>
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>

#include "symbolize/dwarf_library.hpp"

namespace tarn::symbolize {

namespace {

constexpr std::string_view system_debug_dir = "/usr/lib/debug";

struct free_memory {
    void operator()(void* ptr) const noexcept { std::free(ptr); }
};

std::string demangled(char const* name) {
    if (name == nullptr) {
        return {};
    }
    int status = 0;
    std::unique_ptr<char, free_memory> const readable{
        std::string_view{name}.starts_with("_Z")
            ? abi::__cxa_demangle(name, nullptr, nullptr, &status)
            : nullptr};
    return readable ? readable.get() : name;
}

std::string joined(char const* folder, std::string_view file) {
    bool const is_complete = file.starts_with('/') || folder == nullptr;
    return is_complete ? std::string{file} : fmt::format("{}/{}", folder, file);
}

std::vector<std::string> debug_dirs(search_places const& places) {
    std::vector<std::string> dirs = places.debug_dirs;
    dirs.push_back(places.sysroot + std::string{system_debug_dir});
    return dirs;
}

/// As dwfl_standard_find_debuginfo() wants it: beside the file, in .debug there, then the folders.
std::string debug_path(search_places const& places) {
    std::string path = ":.debug";
    for (std::string const& dir : debug_dirs(places)) {
        path += ":" + dir;
    }
    return path;
}

}  // namespace

struct module_symbols::opened {
    dwarf_library const& library = load_dwarf_library();
    std::string debug_path;
    char* debug_path_text = nullptr;
    Dwfl_Callbacks callbacks{};
    Dwfl* session = nullptr;
    Dwfl_Module* module = nullptr;
    Dwarf_Addr bias = 0;  // from addresses of the file to those of the session

    explicit opened(search_places const& places) : debug_path{symbolize::debug_path(places)} {
        debug_path_text = debug_path.data();
        callbacks.find_elf = library.dwfl_build_id_find_elf;
        callbacks.find_debuginfo = library.dwfl_standard_find_debuginfo;
        callbacks.section_address = library.dwfl_offline_section_address;
        callbacks.debuginfo_path = &debug_path_text;
    }

    ~opened() { close(); }

    opened(opened const&) = delete;
    opened& operator=(opened const&) = delete;

    void close() {
        if (session != nullptr) {
            library.dwfl_end(session);
        }
        session = nullptr;
        module = nullptr;
    }

    /// Why not; empty: the file is open.
    std::string open(std::string const& path, std::string const& wanted_build_id) {
        close();
        std::error_code error;
        if (!std::filesystem::is_regular_file(path, error)) {
            return error ? error.message() : "not a file";
        }
        session = library.dwfl_begin(&callbacks);
        if (session != nullptr) {
            library.dwfl_report_begin(session);
            module = library.dwfl_report_offline(session, path.c_str(), path.c_str(), -1);
            library.dwfl_report_end(session, nullptr, nullptr);
        }
        if (module == nullptr || library.dwfl_module_getelf(module, &bias) == nullptr) {
            std::string const why = library.dwfl_errmsg(-1);
            close();
            return "can't be read: " + why;
        }
        std::string const found = build_id();
        if (found != wanted_build_id) {
            close();
            return fmt::format("is another file now: its build id is {}, the report's {}",
                               found.empty() ? "missing" : found,
                               wanted_build_id.empty() ? "missing" : wanted_build_id);
        }
        return {};
    }

    [[nodiscard]] std::string build_id() const {
        unsigned char const* bytes = nullptr;
        GElf_Addr address = 0;
        int const count = library.dwfl_module_build_id(module, &bytes, &address);
        std::string digits;
        for (int i = 0; i < count; ++i) {
            digits += fmt::format("{:02x}", bytes[i]);
        }
        return digits;
    }

    [[nodiscard]] bool has_lines() const {
        Dwarf_Addr ignored = 0;
        return library.dwfl_module_getdwarf(module, &ignored) != nullptr;
    }

    [[nodiscard]] std::string symbol(Dwarf_Addr address) const {
        GElf_Off offset = 0;
        GElf_Sym about{};
        char const* const name = library.dwfl_module_addrinfo(module, address, &offset, &about,
                                                              nullptr, nullptr, nullptr);
        // libdw also gives the nearest symbol before one without a size.
        bool const is_inside = name != nullptr && (about.st_size == 0 || offset < about.st_size);
        return is_inside ? demangled(name) : std::string{};
    }

    [[nodiscard]] std::string function(Dwarf_Die* of) const {
        for (unsigned const kind : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name}) {
            Dwarf_Attribute attribute;
            Dwarf_Attribute* const found = library.dwarf_attr_integrate(of, kind, &attribute);
            char const* const name = found != nullptr ? library.dwarf_formstring(found) : nullptr;
            if (name != nullptr) {
                return demangled(name);
            }
        }
        char const* const name = library.dwarf_diename(of);
        return name == nullptr ? std::string{} : name;
    }

    [[nodiscard]] std::optional<Dwarf_Word> number(Dwarf_Die* of, unsigned kind) const {
        Dwarf_Attribute attribute;
        Dwarf_Word value = 0;
        if (library.dwarf_attr(of, kind, &attribute) == nullptr ||
            library.dwarf_formudata(&attribute, &value) != 0) {
            return std::nullopt;
        }
        return value;
    }

    /// Where an inlined function is called.
    void set_call_place(Dwarf_Die* unit, Dwarf_Die* inlined, source_frame& to) const {
        Dwarf_Files* files = nullptr;
        std::size_t count = 0;
        auto const index = number(inlined, DW_AT_call_file);
        if (index && library.dwarf_getsrcfiles(unit, &files, &count) == 0 && *index < count) {
            char const* const name = library.dwarf_filesrc(files, *index, nullptr, nullptr);
            char const* const* folders = nullptr;
            std::size_t folder_count = 0;
            library.dwarf_getsrcdirs(files, &folders, &folder_count);
            if (name != nullptr) {
                to.file = joined(folder_count != 0 ? folders[0] : nullptr, name);
            }
        }
        to.line = static_cast<unsigned>(number(inlined, DW_AT_call_line).value_or(0));
    }

    /// The functions around `address`, innermost first, with their files and lines.
    void add_functions(Dwarf_Addr address, std::vector<source_frame>& frames) const {
        Dwarf_Addr unit_bias = 0;
        Dwarf_Die* const unit = library.dwfl_module_addrdie(module, address, &unit_bias);
        Dwarf_Die* scopes = nullptr;
        int count =
            unit == nullptr ? 0 : library.dwarf_getscopes(unit, address - unit_bias, &scopes);
        std::unique_ptr<Dwarf_Die, free_memory> const innermost_scopes{scopes};
        if (count <= 0) {
            return;
        }
        // What dwarf_getscopes() lists beyond an inlined function is where that was written; wanted
        // is where it ended up.
        Dwarf_Die innermost;
        Dwarf_Die* around = nullptr;
        if (library.dwarf_offdie(library.dwfl_module_getdwarf(module, &unit_bias),
                                 library.dwarf_dieoffset(scopes), &innermost) == nullptr) {
            return;
        }
        count = library.dwarf_getscopes_die(&innermost, &around);
        std::unique_ptr<Dwarf_Die, free_memory> const owner{around};
        for (int i = 0; i < count; ++i) {
            int const tag = library.dwarf_tag(&around[i]);
            if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram) {
                continue;
            }
            frames.back().function = function(&around[i]);
            if (tag == DW_TAG_subprogram) {
                return;
            }
            frames.back().is_inlined = true;
            source_frame outer;
            set_call_place(unit, &around[i], outer);
            frames.push_back(std::move(outer));
        }
    }

    void add_line(Dwarf_Addr address, source_frame& to) const {
        Dwfl_Line* const line = library.dwfl_module_getsrc(module, address);
        int number = 0;
        char const* const file = line == nullptr ? nullptr
                                                 : library.dwfl_lineinfo(line, nullptr, &number,
                                                                         nullptr, nullptr, nullptr);
        if (file != nullptr) {
            to.file = joined(library.dwfl_line_comp_dir(line), file);
            to.line = number > 0 ? static_cast<unsigned>(number) : 0;
        }
    }
};

module_symbols::module_symbols(std::string path, std::string build_id, search_places const& places)
    : opened_{std::make_unique<opened>(places)} {
    open(path, build_id, places);
}

module_symbols::~module_symbols() = default;

void module_symbols::open(std::string const& path, std::string const& build_id,
                          search_places const& places) {
    reason_ = opened_->open(places.sysroot + path, build_id);
    // Its debug file may have outlived it.
    constexpr std::size_t folder_digits = 2;
    bool const has_name = build_id.size() > folder_digits;
    for (std::string const& dir : debug_dirs(places)) {
        if (opened_->module != nullptr || !has_name) {
            break;
        }
        std::string const file =
            fmt::format("{}/.build-id/{}/{}.debug", dir, build_id.substr(0, folder_digits),
                        build_id.substr(folder_digits));
        if (opened_->open(file, build_id).empty()) {
            reason_.clear();
        }
    }
    if (opened_->module != nullptr && !opened_->has_lines()) {
        reason_ = "has no debug information, and no debug file was found";
    }
}

std::vector<source_frame> module_symbols::describe(std::uint64_t offset) const {
    std::vector<source_frame> frames;
    if (opened_->module == nullptr || offset == 0) {
        return frames;
    }
    Dwarf_Addr const call = offset - 1 + opened_->bias;
    frames.emplace_back();
    opened_->add_line(call, frames.back());
    if (!frames.back().file.empty()) {
        opened_->add_functions(call, frames);
    }
    // As in the process: the symbol tells scope and arguments where the debug information does not.
    source_frame& outermost = frames.back();
    std::string const symbol = opened_->symbol(call);
    if (outermost.function.find('(') == std::string::npos &&
        symbol.find(outermost.function) != std::string::npos) {
        outermost.function = symbol;
    }
    outermost.is_inlined = false;
    if (outermost.function.empty() && outermost.file.empty()) {
        frames.clear();
    }
    return frames;
}

}  // namespace tarn::symbolize
