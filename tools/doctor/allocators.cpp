#include "doctor/allocators.hpp"

#include <algorithm>
#include <array>
#include <unordered_set>

namespace tarn::doctor {

namespace {

constexpr auto plain = allocator_kind::plain;
constexpr auto sanitizer = allocator_kind::sanitizer;

/// A name that one allocator alone has, or that only its names begin with.
struct telltale {
    std::string_view name;
    allocator owner;
    bool is_start = false;
};

/// Sanitizers first, since they may contain another one; libc last, which may be there unused.
constexpr std::array symbols_known{
    telltale{"__asan_init", {"AddressSanitizer", sanitizer}},
    telltale{"__hwasan_init", {"HWAddressSanitizer", sanitizer}},
    telltale{"__tsan_init", {"ThreadSanitizer", sanitizer}},
    telltale{"__msan_init", {"MemorySanitizer", sanitizer}},
    telltale{"__lsan_init", {"LeakSanitizer", sanitizer}},
    telltale{"tarn_malloc", {tarn_name, plain}},
    telltale{"mallctlnametomib", {"jemalloc", plain}},
    telltale{"je_mallctl", {"jemalloc", plain}},
    telltale{"je_malloc", {"jemalloc", plain}},
    telltale{"_rjem_malloc", {"jemalloc", plain}},  // Rust's copy
    telltale{"__TBB_malloc_proxy", {"tbbmalloc", plain}},
    telltale{"scalable_malloc", {"tbbmalloc", plain}},
    telltale{"mi_malloc", {"mimalloc", plain}},
    telltale{"tc_malloc", {"tcmalloc", plain}},
    telltale{"TCMallocInternalMalloc", {"tcmalloc", plain}},
    telltale{"_ZN8tcmalloc", {"tcmalloc", plain}, true},
    telltale{"sn_rust_alloc", {"snmalloc", plain}},
    telltale{"_ZN8snmalloc", {"snmalloc", plain}, true},
    telltale{"_ZN15partition_alloc", {"PartitionAlloc", plain}, true},
    telltale{"rpmalloc", {"rpmalloc", plain}},
    telltale{"__scudo_print_stats", {"Scudo", plain}},
    telltale{"__libc_malloc", {glibc_name, plain}},
};

/// What names of libraries begin with.
constexpr std::array libraries{
    telltale{"libtarn.so", {tarn_name, plain}},
    telltale{"libjemalloc", {"jemalloc", plain}},
    telltale{"libtcmalloc", {"tcmalloc", plain}},
    telltale{"libmimalloc", {"mimalloc", plain}},
    telltale{"libtbbmalloc_proxy", {"tbbmalloc", plain}},
    telltale{"libsnmalloc", {"snmalloc", plain}},
    telltale{"librpmalloc", {"rpmalloc", plain}},
    telltale{"libhardened_malloc", {"hardened_malloc", plain}},
    telltale{"libscudo", {"Scudo", plain}},
    telltale{"libc_malloc_debug.so", {"glibc's debugging malloc", plain}},
    telltale{"libasan.so", {"AddressSanitizer", sanitizer}},
    telltale{"libclang_rt.asan", {"AddressSanitizer", sanitizer}},
    telltale{"libhwasan.so", {"HWAddressSanitizer", sanitizer}},
    telltale{"libtsan.so", {"ThreadSanitizer", sanitizer}},
    telltale{"libclang_rt.tsan", {"ThreadSanitizer", sanitizer}},
    telltale{"liblsan.so", {"LeakSanitizer", sanitizer}},
    telltale{"vgpreload_", {"Valgrind", sanitizer}},
    telltale{"libc.so.6", {glibc_name, plain}},
    telltale{"libc.musl-", {"musl", plain}},
    telltale{"ld-musl-", {"musl", plain}},
};

constexpr own_heap go{"Go", "Go objects lie in Go's own heap; malloc serves only C code in it"};
constexpr own_heap python{
    "CPython", "objects up to 512 bytes lie in its own arenas unless PYTHONMALLOC=malloc is set"};
constexpr own_heap java{"Java",
                        "Java objects lie in the JVM's own heap; malloc serves its native parts"};
constexpr own_heap v8{"V8", "JavaScript objects lie in V8's own heap; malloc serves the rest"};

struct heap_telltale {
    std::string_view start;
    own_heap const* heap;
};

constexpr std::array heap_symbols{heap_telltale{"PyObject_Malloc", &python},
                                  heap_telltale{"JNI_CreateJavaVM", &java},
                                  heap_telltale{"_ZN2v87Isolate", &v8}};
constexpr std::array heap_names{
    heap_telltale{".go.buildinfo", &go},  heap_telltale{".note.go.buildid", &go},
    heap_telltale{"libpython3", &python}, heap_telltale{"libjli.so", &java},
    heap_telltale{"libjvm.so", &java},    heap_telltale{"libv8.so", &v8}};

bool any_starts_with(std::span<std::string_view const> names, std::string_view start) {
    return std::any_of(names.begin(), names.end(),
                       [start](std::string_view name) { return name.starts_with(start); });
}

}  // namespace

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

allocator const* allocator_with_symbol(std::span<std::string_view const> symbols) {
    std::unordered_set<std::string_view> const defined(symbols.begin(), symbols.end());
    auto const is_there = [&](telltale const& each) {
        return each.is_start ? any_starts_with(symbols, each.name) : defined.contains(each.name);
    };
    auto const* const found = std::find_if(symbols_known.begin(), symbols_known.end(), is_there);
    return found == symbols_known.end() ? nullptr : &found->owner;
}

allocator const* allocator_called(std::string_view library) {
    std::string_view const name = file_name(library);
    for (telltale const& each : libraries) {
        if (name.starts_with(each.name)) {
            return &each.owner;
        }
    }
    return nullptr;
}

own_heap const* own_heap_with_symbol(std::span<std::string_view const> symbols) {
    for (heap_telltale const& each : heap_symbols) {
        if (any_starts_with(symbols, each.start)) {
            return each.heap;
        }
    }
    return nullptr;
}

own_heap const* own_heap_called(std::string_view section_or_library) {
    std::string_view const name = file_name(section_or_library);
    for (heap_telltale const& each : heap_names) {
        if (name.starts_with(each.start)) {
            return each.heap;
        }
    }
    return nullptr;
}

}  // namespace tarn::doctor
