// Exits with 0 when the library sees OS pages of argv[1] bytes and allocates on them.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <tarn/tarn.h>

#include "platform/linux/linux_os.hpp"

int main(int argc, char** argv) {
    std::size_t const wanted = argc == 2 ? std::strtoull(argv[1], nullptr, 10) : 0;
    std::size_t const seen = tarn::impl::platform::linux_os::page_bytes();
    std::printf("OS pages of %zu bytes\n", seen);
    for (std::size_t bytes = 1; bytes < 8U << 20; bytes = bytes * 3 / 2 + 1) {
        void* const block = tarn_malloc(bytes);
        if (block == nullptr) {
            std::printf("no memory for %zu bytes\n", bytes);
            return 2;
        }
        std::memset(block, 1, bytes);
        tarn_free(block);
    }
    return seen == wanted ? 0 : 1;
}
