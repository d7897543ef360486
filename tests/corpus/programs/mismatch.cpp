// mismatch.cpp - blocks given back by another function than fits the one they came from.
#include <memory>
#include <new>
#include <string>

#include "bug.h"

// Of C23; here they come from Tarn.
extern "C" {
[[gnu::weak]] void free_sized(void* block, std::size_t bytes);
[[gnu::weak]] void free_aligned_sized(void* block, std::size_t alignment, std::size_t bytes);
}

namespace {

template <class T>
T* hidden(T* ptr) {
    return static_cast<T*>(hide(ptr));
}

struct pair {
    long first = 1;
    long second = 2;
};

struct tracked {
    int value = 0;

    ~tracked() { value = -1; }
};

struct base {
    int kind = 1;
};

struct derived : base {
    long payload[5] = {};
};

struct alignas(128) wide {
    char bytes[128] = {};
};

void array_new_delete() {
    int* const table = hidden(new int[10]);  // allocated
    delete table;                            // found
}

void new_array_delete() {
    auto* const one = hidden(new pair);  // allocated
    delete[] one;                        // found
}

void new_free() {
    auto* const one = hidden(new pair);  // allocated
    free(one);                           // found
}

void array_new_free() {
    auto* const table = hidden(new char[33]);  // allocated
    free(table);                               // found
}

void malloc_delete() {
    auto* const one = static_cast<int*>(hide(malloc(sizeof(int))));  // allocated
    delete one;                                                      // found
}

void malloc_array_delete() {
    char* const row = block_of(12);  // allocated
    delete[] row;                    // found
}

void strdup_delete() {
    char* const copy = hidden(strdup("a copy"));  // allocated
    delete[] copy;                                // found
}

void unique_ptr_of_malloc() {
    std::unique_ptr<char> const owner{block_of(64)};  // allocated
}  // found

void realloc_of_new() {
    auto* const row = hidden(new char[50]);             // allocated
    auto* const moved = hide(realloc(hide(row), 100));  // found
    free(moved);
}

// Resized where it is.
void realloc_of_large_new() {
    auto* const row = hidden(new char[1000000]);           // allocated
    auto* const moved = hide(realloc(hide(row), 999000));  // found
    free(moved);
}

void sized_through_base() {
    base* const made = hidden(static_cast<base*>(new derived));  // allocated
    delete made;                                                 // found
}

void sized_wrong() {
    void* const block = hide(::operator new(48));  // allocated
    ::operator delete (block, std::size_t{40});    // found
}

void aligned_new_plain_delete() {
    void* const block = hide(::operator new (96, std::align_val_t{64}));  // allocated
    ::operator delete(block);                                             // found
}

void plain_new_aligned_delete() {
    void* const block = hide(::operator new(96));     // allocated
    ::operator delete (block, std::align_val_t{64});  // found
}

void other_alignment() {
    void* const block = hide(::operator new (256, std::align_val_t{256}));  // allocated
    ::operator delete (block, std::align_val_t{64});                        // found
}

void aligned_new_free() {
    auto* const made = hidden(new wide);  // allocated
    free(made);                           // found
}

void free_sized_wrong() {
    char* const row = block_of(60);  // allocated
    free_sized(hide(row), 64);       // found
}

void free_aligned_sized_wrong() {
    void* const block = hide(aligned_alloc(64, 128));  // allocated
    free_aligned_sized(block, 64, 192);                // found
}

void free_aligned_sized_other() {
    void* const block = hide(aligned_alloc(64, 128));  // allocated
    free_aligned_sized(block, 32, 128);                // found
}

void and_overflow() {
    auto* const row = hidden(new char[24]);  // allocated
    row[24] = 1;
    barrier();
    free(row);  // found
}

}  // namespace

struct bug const bugs[] = {{"array_new_delete", array_new_delete},
                           {"new_array_delete", new_array_delete},
                           {"new_free", new_free},
                           {"array_new_free", array_new_free},
                           {"malloc_delete", malloc_delete},
                           {"malloc_array_delete", malloc_array_delete},
                           {"strdup_delete", strdup_delete},
                           {"unique_ptr_of_malloc", unique_ptr_of_malloc},
                           {"realloc_of_new", realloc_of_new},
                           {"realloc_of_large_new", realloc_of_large_new},
                           {"sized_through_base", sized_through_base},
                           {"sized_wrong", sized_wrong},
                           {"aligned_new_plain_delete", aligned_new_plain_delete},
                           {"plain_new_aligned_delete", plain_new_aligned_delete},
                           {"other_alignment", other_alignment},
                           {"aligned_new_free", aligned_new_free},
                           {"free_sized_wrong", free_sized_wrong},
                           {"free_aligned_sized_wrong", free_aligned_sized_wrong},
                           {"free_aligned_sized_other", free_aligned_sized_other},
                           {"and_overflow", and_overflow},
                           {nullptr, nullptr}};
