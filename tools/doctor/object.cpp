#include "doctor/object.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <utility>

namespace tarn::doctor {

namespace {

bool has(std::vector<std::string_view> const& names, std::string_view wanted) {
    return std::find(names.begin(), names.end(), wanted) != names.end();
}

own_heap const* find_own_heap(elf_file const& file) {
    if (own_heap const* const found = own_heap_with_symbol(file.exported)) {
        return found;
    }
    for (auto const* names : {&file.sections, &file.needed}) {
        for (std::string const& name : *names) {
            if (own_heap const* const found = own_heap_called(name)) {
                return found;
            }
        }
    }
    return nullptr;
}

allocator const* find_allocator(object const& object, elf_file const& file) {
    if (allocator const* const found = allocator_with_symbol(file.exported)) {
        return found;
    }
    if (allocator const* const found = allocator_with_symbol(file.internal)) {
        return found;
    }
    return object.exports_malloc ? allocator_called(object.path) : nullptr;
}

}  // namespace

object describe_object(std::string path, elf_file const& file) {
    object result;
    result.path = std::move(path);
    result.was_read = true;
    result.exports_malloc = has(file.exported, "malloc");
    result.exports_free = has(file.exported, "free");
    result.exports_new = has(file.exported, "_Znwm");
    result.hides_malloc = !result.exports_malloc && has(file.internal, "malloc");
    result.contains = find_allocator(result, file);
    result.runtime = find_own_heap(file);
    result.file = file;
    result.file.exported.clear();  // views that would outlive the bytes
    result.file.imported.clear();
    result.file.internal.clear();
    return result;
}

object describe_unread_object(std::string path) {
    object result;
    result.contains = allocator_called(path);
    result.exports_malloc = result.contains != nullptr;
    result.path = std::move(path);
    return result;
}

bool answers_to(object const& mapped, std::string_view name) {
    if (mapped.path == name) {
        return true;
    }
    std::string_view const last = file_name(name);
    return !last.empty() && (file_name(mapped.path) == last || mapped.file.soname == last);
}

std::string allocator_name_of(object const& object) {
    return object.contains != nullptr
               ? std::string{object.contains->name}
               : fmt::format("a malloc of its own in {}", file_name(object.path));
}

std::vector<object const*> symbol_order(object const& program,
                                        std::vector<std::string> const& preloads,
                                        object_lookup const& find) {
    std::vector<object const*> order{&program};
    auto const add = [&](std::string const& name, object const& requester) {
        object const* const found = find(name, requester);
        if (found != nullptr && std::find(order.begin(), order.end(), found) == order.end()) {
            order.push_back(found);
        }
    };
    for (std::string const& name : preloads) {
        add(name, program);
    }
    // Bounded: `order` grows only by objects that `find` has and that are not in it yet.
    for (std::size_t i = 0; i < order.size(); ++i) {
        object const& requester = *order[i];
        for (std::string const& name : requester.file.needed) {
            add(name, requester);
        }
    }
    return order;
}

object const* malloc_owner(std::vector<object const*> const& order) {
    auto const first = std::find_if(order.begin(), order.end(),
                                    [](object const* each) { return each->exports_malloc; });
    return first == order.end() ? nullptr : *first;
}

}  // namespace tarn::doctor
