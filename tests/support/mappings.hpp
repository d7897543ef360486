// support/mappings.hpp - what the kernel says about this process's mappings.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

namespace tarn::test {

/// Number of mappings; -1 without /proc.
inline int mapping_count() {
    std::ifstream maps{"/proc/self/maps"};
    int count = maps ? 0 : -1;
    for (std::string line; std::getline(maps, line);) {
        ++count;
    }
    return count;
}

/// The VmFlags of the mapping that holds `address`, as " rd wr dd"; empty where the system does
/// not tell.
inline std::string mapping_flags(void const* address) {
    std::ifstream smaps{"/proc/self/smaps"};
    auto const wanted = reinterpret_cast<std::uintptr_t>(address);
    std::string const key = "VmFlags:";
    bool inside = false;
    for (std::string line; std::getline(smaps, line);) {
        char* end = nullptr;
        std::uint64_t const first = std::strtoull(line.c_str(), &end, 16);
        if (*end == '-') {
            inside = first <= wanted && wanted < std::strtoull(end + 1, nullptr, 16);
        } else if (inside && line.compare(0, key.size(), key) == 0) {
            return line.substr(key.size());
        }
    }
    return {};
}

/// Whether mapping_flags() tells what is left out of core dumps. Emulated systems ignore the call.
inline bool dump_flags_are_told() {
    std::size_t const bytes = std::size_t{64} << 10;
    void* const probe = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe == MAP_FAILED) {
        return false;
    }
    ::madvise(probe, bytes, MADV_DONTDUMP);
    bool const told = mapping_flags(probe).find(" dd") != std::string::npos;
    ::munmap(probe, bytes);
    return told;
}

}  // namespace tarn::test
