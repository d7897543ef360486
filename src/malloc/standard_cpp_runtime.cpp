#include <dlfcn.h>

#include <cstdlib>

#include "control/report.hpp"
#include "malloc/cxx_runtime.hpp"

// libstdc++'s names for std::get_new_handler() and std::__throw_bad_alloc().
extern "C" {
// NOLINTNEXTLINE(bugprone-reserved-identifier): libstdc++'s name
void (*_ZSt15get_new_handlerv())() __attribute__((weak));
// NOLINTNEXTLINE(bugprone-reserved-identifier): libstdc++'s name
void _ZSt17__throw_bad_allocv() __attribute__((weak));
}

namespace tarn::impl::cxx_runtime {

namespace {

template <class Function>
Function* find(Function* linked, char const* name) noexcept {
    if (linked != nullptr) {
        return linked;
    }
    void* const library = ::dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
    return library == nullptr ? nullptr : reinterpret_cast<Function*>(::dlsym(library, name));
}

}  // namespace

new_handler current_new_handler() noexcept {
    auto* const get = find(&_ZSt15get_new_handlerv, "_ZSt15get_new_handlerv");
    return get == nullptr ? nullptr : get();
}

void throw_bad_alloc() {
    if (auto* const raise = find(&_ZSt17__throw_bad_allocv, "_ZSt17__throw_bad_allocv")) {
        raise();
    }
    control::write_report("tarn: out of memory in operator new, and no C++ runtime to throw\n");
    std::abort();
}

}  // namespace tarn::impl::cxx_runtime
