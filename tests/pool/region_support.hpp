// pool/region_support.hpp - what the tests of regions share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace tarn::test {

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;

/// Writes its name down when it goes.
struct witness {
    witness(std::string& to, char const* its_name) : log{&to}, name{its_name} {}

    witness(witness const&) = delete;
    witness& operator=(witness const&) = delete;

    ~witness() { *log += name; }

    std::string* log;
    char const* name;
};

inline bool aligned(void const* pointer, std::size_t alignment) {
    return reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

/// Hides a bad argument from compilers that would warn of it.
inline std::size_t opaque(std::size_t value) {
    std::size_t volatile hidden = value;
    return hidden;
}

}  // namespace tarn::test
