#include "doctor/link_map.hpp"

#include <elf.h>
#include <link.h>

#include <optional>

namespace tarn::doctor {

namespace {

constexpr std::uint64_t headers_max = 1000;
constexpr std::uint64_t dynamic_max = 1000;
constexpr std::uint64_t objects_max = 100'000;

template <class T>
std::optional<T> object_at(memory_reader const& read, std::uint64_t address) {
    T value{};
    bool const is_there = read(address, std::as_writable_bytes(std::span{&value, 1}));
    return is_there ? std::optional{value} : std::nullopt;
}

/// Where the program's dynamic section lies; 0 when it has none.
std::uint64_t find_dynamic(memory_reader const& read, std::uint64_t headers, std::uint64_t count) {
    std::uint64_t dynamic = 0;
    std::optional<std::uint64_t> linked_at;  // the address that the headers were linked for
    for (std::uint64_t i = 0; i < count && i < headers_max; ++i) {
        auto const header = object_at<Elf64_Phdr>(read, headers + i * sizeof(Elf64_Phdr));
        if (!header) {
            return 0;
        }
        if (header->p_type == PT_PHDR) {
            linked_at = header->p_vaddr;
        } else if (header->p_type == PT_DYNAMIC) {
            dynamic = header->p_vaddr;
        }
    }
    return dynamic == 0 || !linked_at ? 0 : headers - *linked_at + dynamic;
}

/// Where the loader has put its r_debug; 0 when it has not.
std::uint64_t find_debug(memory_reader const& read, std::uint64_t dynamic) {
    for (std::uint64_t i = 0; i < dynamic_max; ++i) {
        auto const entry = object_at<Elf64_Dyn>(read, dynamic + i * sizeof(Elf64_Dyn));
        if (!entry || entry->d_tag == DT_NULL) {
            return 0;
        }
        if (entry->d_tag == DT_DEBUG) {
            return entry->d_un.d_ptr;
        }
    }
    return 0;
}

}  // namespace

std::vector<std::uint64_t> read_link_map(memory_reader const& read, std::uint64_t headers,
                                         std::uint64_t count) {
    static_assert(sizeof(void*) == sizeof(std::uint64_t), "reads processes of its own kind");
    std::uint64_t const dynamic = find_dynamic(read, headers, count);
    std::uint64_t const debug = dynamic == 0 ? 0 : find_debug(read, dynamic);
    auto const list = debug == 0 ? std::nullopt : object_at<r_debug>(read, debug);
    std::vector<std::uint64_t> loaded;
    auto next = list ? reinterpret_cast<std::uint64_t>(list->r_map) : 0;
    while (next != 0 && loaded.size() < objects_max) {
        auto const each = object_at<link_map>(read, next);
        if (!each) {
            return {};
        }
        loaded.push_back(reinterpret_cast<std::uint64_t>(each->l_ld));
        next = reinterpret_cast<std::uint64_t>(each->l_next);
    }
    return loaded;
}

}  // namespace tarn::doctor
