// dlopen_loop.cpp - loads plugin.so, uses it in a thread that ends and in one that stays, unloads.
#include <dlfcn.h>

#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

int main() {
    std::size_t total = 0;
    int unloaded = 0;
    std::vector<std::unique_ptr<std::string>> kept;
    for (int round = 0; round < 200; ++round) {
        void* const library = dlopen("./plugin.so", RTLD_NOW);
        if (library == nullptr) {
            std::puts(dlerror());
            return 1;
        }
        auto* const use = reinterpret_cast<std::size_t (*)(int)>(dlsym(library, "plugin_use"));
        std::thread([&total, use, round] { total += use(round); }).join();
        if (round % 50 == 49) {
            total += use(1);  // now a thread-local object of main keeps the library loaded
        }
        kept.push_back(std::make_unique<std::string>(static_cast<std::size_t>(round), 'k'));
        dlclose(library);
        void* const still = dlopen("./plugin.so", RTLD_NOW | RTLD_NOLOAD);
        unloaded += still == nullptr ? 1 : 0;
        if (still != nullptr) {
            dlclose(still);
        }
    }
    std::printf("%zu, unloaded %d times, kept %zu\n", total, unloaded, kept.size());
}
