// As buggy.c, by the prefixed functions:  prefixed clean|overflow
#include <cstdio>
#include <cstring>
#include <string_view>

#include <tarn/new.hpp>
#include <tarn/tarn.h>

namespace {

struct base {
    virtual ~base() = default;
};

struct other {
    virtual ~other() = default;
    int number = 1;
};

struct derived : base, other {};

void clean() {
    auto* block = static_cast<char*>(tarn_calloc(3, 7));
    block = static_cast<char*>(tarn_realloc(block, 40));
    tarn_free_sized(block, 40);
    tarn_free(tarn_aligned_alloc(256, 256));
    other* const object = tarn::new_object<derived>();
    tarn::delete_object(object);
    tarn::delete_object(tarn::new_object<char>());
    tarn_heap const heap = tarn_heap_create(nullptr);
    void* const of_heap = tarn_heap_malloc(heap, 50);
    std::printf("%s\n", of_heap != nullptr && tarn_heap_of(of_heap).id == heap.id ? "ok" : "lost");
    tarn_free(tarn_realloc(of_heap, 500));
    tarn_heap_destroy(heap);
}

[[gnu::noinline]] void overflow() {
    char* block = static_cast<char*>(tarn_malloc(21));
    __asm__ volatile("" : "+r"(block) : : "memory");
    block[21] = 1;
    tarn_free(block);
}

}  // namespace

int main(int count, char** arguments) {
    std::string_view const what = count == 2 ? arguments[1] : "";
    if (what == "clean") {
        clean();
    } else if (what == "overflow") {
        overflow();
    } else {
        return 2;
    }
    return 0;
}
