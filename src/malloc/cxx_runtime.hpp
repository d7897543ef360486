// malloc/cxx_runtime.hpp - the C++ runtime's part in a failed operator new, without needing one.
//
// Always     every reference to libstdc++ is weak: a C program with Tarn needs no libstdc++. Where
//            it is loaded later, and privately, it is looked up when it is needed.
// Threads    any
#pragma once

namespace tarn::impl::cxx_runtime {

using new_handler = void (*)();

/// The installed new_handler; null: none, or no C++ runtime.
new_handler current_new_handler() noexcept;

/// Throws std::bad_alloc; aborts with a message in a process without C++ runtime.
[[noreturn]] void throw_bad_alloc();

}  // namespace tarn::impl::cxx_runtime
