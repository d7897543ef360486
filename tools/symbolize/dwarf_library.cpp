#include "symbolize/dwarf_library.hpp"

#include <dlfcn.h>
#include <fmt/core.h>

#include "cli/failure.hpp"

namespace tarn::symbolize {

namespace {

constexpr char const* file_name = "libdw.so.1";

template <class Function>
void find(void* library, char const* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(library, name));
    if (function == nullptr) {
        throw cli::failure{fmt::format("symbolize: {} has no {}: it is too old", file_name, name)};
    }
}

dwarf_library load() {
    void* const library = ::dlopen(file_name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        throw cli::failure{fmt::format(
            "symbolize: {} is needed to read debug information (Debian: libdw1)", file_name)};
    }
    dwarf_library functions;
#define TARN_DWARF_FIND(name) find(library, #name, functions.name);
    TARN_DWARF_FUNCTIONS(TARN_DWARF_FIND)
#undef TARN_DWARF_FIND
    return functions;
}

}  // namespace

dwarf_library const& load_dwarf_library() {
    static dwarf_library const loaded = load();
    return loaded;
}

}  // namespace tarn::symbolize
