// base/units.hpp - byte units.
// Cost       constants only
#pragma once

#include <cstddef>

namespace tarn::impl {

inline constexpr std::size_t KiB = 1024;
inline constexpr std::size_t MiB = 1024 * KiB;
inline constexpr std::size_t GiB = 1024 * MiB;

}  // namespace tarn::impl
