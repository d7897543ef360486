// doctor/object.hpp - a program or library as a diagnosis sees it, and the order in which the
// loader asks such objects for malloc.
//
// Threads    pure; any thread
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/allocators.hpp"
#include "doctor/elf_file.hpp"

namespace tarn::doctor {

/// Owns all it says, so the file may be gone.
struct object {
    std::string path;
    bool was_read = false;    // false: nothing but the path is known, and what it tells
    bool is_deleted = false;  // replaced or removed since it was mapped
    elf_file file;            // without names of symbols

    bool exports_malloc = false;
    bool exports_free = false;
    bool exports_new = false;             // operator new
    bool hides_malloc = false;            // defines it, for itself alone
    bool is_packed = false;               // by UPX
    allocator const* contains = nullptr;  // which allocator its code is
    own_heap const* runtime = nullptr;    // which language runtime
};

/// What can be told of the bytes of an ELF file.
object describe_object(std::string path, elf_file const& file);

/// What can be told by the name alone.
object describe_unread_object(std::string path);

/// Whether the loader takes `mapped` for the library that a DT_NEEDED entry or LD_PRELOAD names.
bool answers_to(object const& mapped, std::string_view name);

/// "jemalloc", "own malloc of NAME".
std::string allocator_name_of(object const& object);

/// The object that `name`, needed by `requester`, stands for; null when there is none.
using object_lookup =
    std::function<object const*(std::string const& name, object const& requester)>;

/// The program, then what is preloaded, then needed libraries, breadth first: the order in which
/// the loader looks for a symbol. Preloads are looked up as the program's.
std::vector<object const*> symbol_order(object const& program,
                                        std::vector<std::string> const& preloads,
                                        object_lookup const& find);

/// The first of them that exports malloc; null when none does.
object const* malloc_owner(std::vector<object const*> const& order);

}  // namespace tarn::doctor
