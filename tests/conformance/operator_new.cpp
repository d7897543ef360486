// operator_new - all twenty replaceable forms of operator new and delete, the new_handler loop, and
// objects of static and thread storage that free late.
//
// Run on glibc and libstdc++, the reference; then on Tarn, as standard_names.c says.
// Status  0 all held; else each failure is a line on stderr.
#include <dlfcn.h>
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

using std::align_val_t;
using std::nothrow;
using std::size_t;

constexpr size_t no_alignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

struct new_form {
    char const* name;
    void* (*call)(size_t bytes, align_val_t alignment);
    bool takes_alignment;
    bool is_array;
    bool throws;
};

constexpr new_form new_forms[] = {
    {"new", [](size_t n, align_val_t) { return ::operator new(n); }, false, false, true},
    {"new[]", [](size_t n, align_val_t) { return ::operator new[](n); }, false, true, true},
    {"new nothrow", [](size_t n, align_val_t) { return ::operator new(n, nothrow); }, false, false,
     false},
    {"new[] nothrow", [](size_t n, align_val_t) { return ::operator new[](n, nothrow); }, false,
     true, false},
    {"new aligned", [](size_t n, align_val_t a) { return ::operator new(n, a); }, true, false,
     true},
    {"new[] aligned", [](size_t n, align_val_t a) { return ::operator new[](n, a); }, true, true,
     true},
    {"new aligned nothrow", [](size_t n, align_val_t a) { return ::operator new(n, a, nothrow); },
     true, false, false},
    {"new[] aligned nothrow",
     [](size_t n, align_val_t a) { return ::operator new[](n, a, nothrow); }, true, true, false},
};

struct delete_form {
    char const* name;
    void (*call)(void* block, size_t bytes, align_val_t alignment);
    bool takes_alignment;
    bool is_array;
};

constexpr delete_form delete_forms[] = {
    {"delete", [](void* p, size_t, align_val_t) { ::operator delete(p); }, false, false},
    {"delete[]", [](void* p, size_t, align_val_t) { ::operator delete[](p); }, false, true},
    {"delete sized", [](void* p, size_t n, align_val_t) { ::operator delete(p, n); }, false, false},
    {"delete[] sized", [](void* p, size_t n, align_val_t) { ::operator delete[](p, n); }, false,
     true},
    {"delete nothrow", [](void* p, size_t, align_val_t) { ::operator delete(p, nothrow); }, false,
     false},
    {"delete[] nothrow", [](void* p, size_t, align_val_t) { ::operator delete[](p, nothrow); },
     false, true},
    {"delete aligned", [](void* p, size_t, align_val_t a) { ::operator delete(p, a); }, true,
     false},
    {"delete[] aligned", [](void* p, size_t, align_val_t a) { ::operator delete[](p, a); }, true,
     true},
    {"delete sized aligned", [](void* p, size_t n, align_val_t a) { ::operator delete(p, n, a); },
     true, false},
    {"delete[] sized aligned",
     [](void* p, size_t n, align_val_t a) { ::operator delete[](p, n, a); }, true, true},
    {"delete aligned nothrow",
     [](void* p, size_t, align_val_t a) { ::operator delete(p, a, nothrow); }, true, false},
    {"delete[] aligned nothrow",
     [](void* p, size_t, align_val_t a) { ::operator delete[](p, a, nothrow); }, true, true},
};

static_assert(std::size(new_forms) + std::size(delete_forms) == 20);

constexpr size_t sizes[] = {0,   1,    8,    15,   16,     17,      100,      256,
                            257, 1000, 4096, 5000, 40'000, 200'000, 3'000'000};

void try_pair(new_form const& from, delete_form const& to, size_t alignment) {
    void* blocks[std::size(sizes)];
    for (size_t i = 0; i < std::size(sizes); ++i) {
        void* const block = opaque(from.call(sizes[i], align_val_t{alignment}));
        TARN_EXPECT(block != nullptr);
        TARN_EXPECT(reinterpret_cast<std::uintptr_t>(block) % alignment == 0);
        std::memset(block, static_cast<int>(i), sizes[i]);
        blocks[i] = block;
    }
    for (size_t i = 0; i < std::size(sizes); ++i) {
        auto const* const bytes = static_cast<unsigned char const*>(blocks[i]);
        TARN_EXPECT(sizes[i] == 0 || (bytes[0] == i && bytes[sizes[i] - 1] == i));
        to.call(blocks[i], sizes[i], align_val_t{alignment});
    }
    to.call(nullptr, 0, align_val_t{alignment});
}

void test_every_form() {
    for (new_form const& from : new_forms) {
        for (delete_form const& to : delete_forms) {
            if (from.is_array != to.is_array || from.takes_alignment != to.takes_alignment) {
                continue;
            }
            if (!from.takes_alignment) {
                try_pair(from, to, no_alignment);
                continue;
            }
            for (size_t alignment = 1; alignment <= size_t{2} << 20; alignment *= 2) {
                try_pair(from, to, alignment);
            }
        }
    }
}

/// Calls a form with a size that never fits. What it did: threw bad_alloc, or returned null.
enum class outcome { block, null, bad_alloc, own_exception };

struct own_exception : std::bad_alloc {};

outcome outcome_of(new_form const& form, size_t bytes) {
    try {
        void* const block = opaque(form.call(bytes, align_val_t{64}));
        if (block == nullptr) {
            return outcome::null;
        }
        ::operator delete(block);  // not reached with the sizes used here
        return outcome::block;
    } catch (own_exception const&) {
        return outcome::own_exception;
    } catch (std::bad_alloc const&) {
        return outcome::bad_alloc;
    }
}

// Not within 64 bytes of the end: there libstdc++'s own aligned forms round up to 0, and succeed.
constexpr size_t never_fits[] = {std::numeric_limits<size_t>::max() - 4096,
                                 size_t{std::numeric_limits<std::ptrdiff_t>::max()} + 1,
                                 size_t{std::numeric_limits<std::ptrdiff_t>::max()}};

int handler_calls = 0;

bool on_tarn() { return ::dlsym(RTLD_DEFAULT, "tarn_version") != nullptr; }

void test_without_handler() {
    for (new_form const& form : new_forms) {
        for (size_t const bytes : never_fits) {
            TARN_EXPECT(outcome_of(form, bytes) ==
                        (form.throws ? outcome::bad_alloc : outcome::null));
        }
        if (on_tarn()) {
            TARN_EXPECT(outcome_of(form, std::numeric_limits<size_t>::max()) ==
                        (form.throws ? outcome::bad_alloc : outcome::null));
        }
    }
}

void test_handler_is_called_until_it_is_removed() {
    for (new_form const& form : new_forms) {
        handler_calls = 0;
        std::set_new_handler([] {
            if (++handler_calls == 5) {
                std::set_new_handler(nullptr);
            }
        });
        TARN_EXPECT(outcome_of(form, never_fits[0]) ==
                    (form.throws ? outcome::bad_alloc : outcome::null));
        TARN_EXPECT(handler_calls == 5);
        TARN_EXPECT(std::get_new_handler() == nullptr);
    }
}

void test_handler_throws() {
    for (new_form const& form : new_forms) {
        handler_calls = 0;
        std::set_new_handler([] {
            ++handler_calls;
            throw own_exception{};
        });
        TARN_EXPECT(outcome_of(form, never_fits[1]) ==
                    (form.throws ? outcome::own_exception : outcome::null));
        TARN_EXPECT(handler_calls == 1);
    }
    std::set_new_handler(nullptr);
}

constexpr size_t hoard_block_bytes = size_t{64} << 20;
std::vector<void*> hoard;  // for the handler, which gets no argument

/// A handler that frees memory makes the same call succeed. The data limit makes memory scarce.
void test_handler_frees() {
    struct rlimit before = {};
    TARN_EXPECT(::getrlimit(RLIMIT_DATA, &before) == 0);
    struct rlimit scarce = before;
    scarce.rlim_cur = rlim_t{1} << 30;
    TARN_EXPECT(::setrlimit(RLIMIT_DATA, &scarce) == 0);
    hoard.reserve(1000);
    for (new_form const& form : new_forms) {
        void* block = nullptr;
        while (hoard.size() < 1000 && (block = std::malloc(hoard_block_bytes)) != nullptr) {
            hoard.push_back(block);
        }
        TARN_EXPECT(hoard.size() > 2);
        TARN_EXPECT(hoard.size() < 1000);
        handler_calls = 0;
        std::set_new_handler([] {
            ++handler_calls;
            if (hoard.empty()) {
                std::set_new_handler(nullptr);
                return;
            }
            std::free(hoard.back());
            hoard.pop_back();
        });
        block = opaque(form.call(hoard_block_bytes - 100, align_val_t{64}));
        TARN_EXPECT(block != nullptr);
        TARN_EXPECT(handler_calls >= 1);
        TARN_EXPECT(handler_calls <= 3);
        std::set_new_handler(nullptr);
        if (form.is_array && form.takes_alignment) {
            ::operator delete[](block, align_val_t{64});
        } else if (form.is_array) {
            ::operator delete[](block);
        } else if (form.takes_alignment) {
            ::operator delete (block, align_val_t{64});
        } else {
            ::operator delete(block);
        }
    }
    for (void* const block : hoard) {
        std::free(block);
    }
    hoard.clear();
    TARN_EXPECT(::setrlimit(RLIMIT_DATA, &before) == 0);
}

void test_new_expressions() {
    struct alignas(256) wide {
        char bytes[300];
    };

    auto one = std::make_unique<wide>();
    auto many = std::make_unique<wide[]>(7);
    TARN_EXPECT(reinterpret_cast<std::uintptr_t>(one.get()) % 256 == 0);
    TARN_EXPECT(reinterpret_cast<std::uintptr_t>(many.get()) % 256 == 0);

    struct base {
        virtual ~base() = default;
    };

    struct derived : base {
        std::vector<std::string> texts{"a rather long text that is not stored in place", "b"};
    };

    std::unique_ptr<base> const object = std::make_unique<derived>();
    TARN_EXPECT(object != nullptr);
    try {
        size_t const count = opaque_size(std::numeric_limits<size_t>::max() / 2);
        auto const* const never = opaque(new double[count]);
        TARN_EXPECT(never == nullptr);  // not reached
    } catch (std::bad_alloc const&) {   // GCC: its child, bad_array_new_length
        ++handler_calls;
    }
}

// --- late frees ---

struct late_user {
    std::unique_ptr<char[]> block{new char[100]};
    std::vector<int> numbers = std::vector<int>(1000, 7);

    ~late_user() {
        numbers.resize(100'000, 8);
        TARN_EXPECT(numbers.front() == 7);
        TARN_EXPECT(numbers.back() == 8);
        block.reset(new char[5000]);
        if (check_failures != 0) {
            ::_exit(1);
        }
    }
};

late_user at_exit;
thread_local late_user at_thread_exit;

void test_threads() {
    std::vector<std::unique_ptr<late_user>> left_behind(20);
    for (auto& left : left_behind) {
        std::thread{[&left] {
            TARN_EXPECT(at_thread_exit.numbers.size() == 1000);
            left = std::make_unique<late_user>();
        }}.join();
    }
}

}  // namespace

int main() {
    TARN_EXPECT(std::getenv("TARN_TEST_ON_TARN") == nullptr || on_tarn());
    TARN_EXPECT(at_exit.numbers.size() == 1000);
    test_every_form();
    test_without_handler();
    test_handler_is_called_until_it_is_removed();
    test_handler_throws();
    test_handler_frees();
    test_new_expressions();
    test_threads();
    return check_result();
}
