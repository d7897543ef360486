#include "pool/early_elements.hpp"

#include <atomic>
#include <thread>

#include "tarn/object_pool.hpp"

namespace tarn::test {

namespace {

/// Allocates first of all, and frees from a thread after main() has returned.
struct holder {
    int* number = new_element<int>(77);

    ~holder() {
        std::thread{[this] {
            delete_element(number);
            delete_element(new_element<int>(1));
        }}.join();
    }
};

holder const first [[gnu::init_priority(101)]];

}  // namespace

int of_another_file() { return *first.number; }

}  // namespace tarn::test
