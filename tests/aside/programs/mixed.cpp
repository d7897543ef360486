// As buggy.c, of C++:  mixed clean|mismatch|array|overflow|size
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

struct alignas(128) wide {
    char bytes[128];
};

template <class T>
void hide(T*& pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
}

void work() {
    std::vector<std::string> texts;
    for (int i = 0; i != 300; ++i) {
        texts.emplace_back(static_cast<std::size_t>(i), 'x');
    }
    auto const one = std::make_unique<wide>();
    auto const many = std::make_unique<wide[]>(3);
    delete new (std::nothrow) int{3};
    delete[] new (std::nothrow) int[3];
    std::printf("%zu texts\n", texts.size());
}

void clean() {
    work();
    std::thread{&work}.join();
}

[[gnu::noinline]] void mismatch() {
    int* made = new int{3};
    hide(made);
    std::free(made);
}

[[gnu::noinline]] void array() {
    int* made = new int[7];
    hide(made);
    delete made;
}

[[gnu::noinline]] void overflow() {
    char* made = new char[21];
    hide(made);
    made[21] = 1;
    hide(made);
    delete[] made;
}

/// operator delete is told another size than operator new.
[[gnu::noinline]] void size() {
    void* made = ::operator new(40);
    hide(made);
#if defined(__cpp_sized_deallocation)
    ::operator delete(made, 24);
#endif
}

}  // namespace

int main(int count, char** arguments) {
    std::string_view const what = count == 2 ? arguments[1] : "";
    if (what == "clean") {
        clean();
    } else if (what == "mismatch") {
        mismatch();
    } else if (what == "array") {
        array();
    } else if (what == "overflow") {
        overflow();
    } else if (what == "size") {
        size();
    } else {
        return 2;
    }
    return 0;
}
