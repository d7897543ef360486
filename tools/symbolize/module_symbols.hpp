// symbolize/module_symbols.hpp - module_symbols: what a module's file says about its addresses.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tarn::symbolize {

struct source_frame {
    std::string function;  // empty: not known
    std::string file;      // likewise
    unsigned line = 0;
    bool is_inlined = false;
};

/// Where files and debug files are looked for.
struct search_places {
    std::string sysroot;                  // before each path of a report; may be empty
    std::vector<std::string> debug_dirs;  // beside /usr/lib/debug
};

/// A module that a report names by path and build id. Its file is used only if that is the same.
class module_symbols {
public:
    module_symbols(std::string path, std::string build_id, search_places const& places);
    ~module_symbols();
    module_symbols(module_symbols const&) = delete;
    module_symbols& operator=(module_symbols const&) = delete;

    /// Why less is known than could be; empty: all is well.
    [[nodiscard]] std::string const& reason() const { return reason_; }

    /// The frames of the call that returns to `offset`, innermost first. Empty: nothing is known.
    /// A file is named in all of them or in none.
    [[nodiscard]] std::vector<source_frame> describe(std::uint64_t offset) const;

private:
    struct opened;

    void open(std::string const& path, std::string const& build_id, search_places const& places);

    std::string reason_;
    std::unique_ptr<opened> opened_;
};

}  // namespace tarn::symbolize
