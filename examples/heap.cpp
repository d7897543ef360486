// A heap for one customer of a server: named, limited, and gone at once with all it holds.
#include <cstdio>
#include <map>
#include <new>
#include <string>

#include <tarn/heap.hpp>

int main() {
    tarn::heap customer{{.name = "customer 7", .limit_bytes = std::size_t{8} << 20}};
    using text = std::pmr::string;
    // Never destroyed: the heap's end frees what it holds.
    auto* const orders = ::new (customer.allocate(sizeof(std::pmr::map<int, text>)))
        std::pmr::map<int, text>{&customer};
    int number = 0;
    try {
        for (;; ++number) {
            orders->emplace(number, "an order that is too long for the string itself");
        }
    } catch (std::bad_alloc const&) {
        std::printf("%d orders fill the heap\n", number);
    }
    tarn::heap_statistics const now = customer.statistics();
    std::printf("%s: %llu blocks, %llu of %llu bytes\n", customer.name().data(),
                static_cast<unsigned long long>(now.live_blocks),
                static_cast<unsigned long long>(now.held_bytes),
                static_cast<unsigned long long>(now.limit_bytes));
    customer.destroy();
    std::printf("%zu heaps left\n", tarn_heaps_get_all(nullptr, 0));
}
