// symbolize/dwarf_library.hpp - dwarf_library: libdw, opened when it is needed.
//
// Only `tarn symbolize` needs it; the program starts where it is not installed.
#pragma once

#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

namespace tarn::symbolize {

// What is used of it.
#define TARN_DWARF_FUNCTIONS(X)     \
    X(dwfl_begin)                   \
    X(dwfl_end)                     \
    X(dwfl_errno)                   \
    X(dwfl_errmsg)                  \
    X(dwfl_report_begin)            \
    X(dwfl_report_offline)          \
    X(dwfl_report_end)              \
    X(dwfl_build_id_find_elf)       \
    X(dwfl_standard_find_debuginfo) \
    X(dwfl_offline_section_address) \
    X(dwfl_module_getelf)           \
    X(dwfl_module_getdwarf)         \
    X(dwfl_module_build_id)         \
    X(dwfl_module_addrdie)          \
    X(dwfl_module_addrinfo)         \
    X(dwfl_module_getsrc)           \
    X(dwfl_lineinfo)                \
    X(dwfl_line_comp_dir)           \
    X(dwarf_getscopes)              \
    X(dwarf_getscopes_die)          \
    X(dwarf_dieoffset)              \
    X(dwarf_offdie)                 \
    X(dwarf_diename)                \
    X(dwarf_tag)                    \
    X(dwarf_attr)                   \
    X(dwarf_attr_integrate)         \
    X(dwarf_formstring)             \
    X(dwarf_formudata)              \
    X(dwarf_getsrcfiles)            \
    X(dwarf_filesrc)                \
    X(dwarf_getsrcdirs)

struct dwarf_library {
#define TARN_DWARF_MEMBER(name) decltype(&::name) name = nullptr;
    TARN_DWARF_FUNCTIONS(TARN_DWARF_MEMBER)
#undef TARN_DWARF_MEMBER
};

/// Throws cli::failure where it is not installed.
dwarf_library const& load_dwarf_library();

}  // namespace tarn::symbolize
