// A pool for the nodes of a tree: they lie close together, and go all at once with the pool. And
// one that threads share without a lock.
#include <atomic>
#include <cstdio>
#include <thread>

#include <tarn/object_pool.hpp>

namespace {

struct node {
    int key;
    node* left = nullptr;
    node* right = nullptr;

    explicit node(int of) : key{of} {}
};

/// One thread makes messages, another deletes them.
long pass_messages(int count) {
    struct message {
        explicit message(int of) : number{of} {}

        message* next = nullptr;
        int number;
    };

    tarn::object_pool<message, tarn::lock_free> messages;
    std::atomic<message*> box = nullptr;
    long sum = 0;
    std::thread reader{[&] {
        for (int seen = 0; seen < count;) {
            message* list = box.exchange(nullptr, std::memory_order_acquire);
            while (list != nullptr) {
                message* const next = list->next;
                sum += list->number;
                messages.delete_element(list);
                list = next;
                ++seen;
            }
        }
    }};
    for (int i = 0; i < count; ++i) {
        message* const fresh = messages.new_element(i);
        fresh->next = box.load(std::memory_order_relaxed);
        while (!box.compare_exchange_weak(fresh->next, fresh, std::memory_order_release,
                                          std::memory_order_relaxed)) {
        }
    }
    reader.join();
    return sum;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): who has no memory for a tree ends
int main() {
    tarn::object_pool<node> nodes{{.elements_most = 1000, .name = "tree"}};
    node* root = nodes.new_element(50);
    for (int key = 1; key < 100; key += 7) {
        node** at = &root;
        while (*at != nullptr) {
            at = key < (*at)->key ? &(*at)->left : &(*at)->right;
        }
        *at = nodes.new_element(key);
    }
    int sum = 0;
    nodes.for_each([&sum](node const& each) { sum += each.key; });
    std::printf("%zu nodes, keys add up to %d, %zu bytes held\n", nodes.size(), sum,
                nodes.held_bytes());
    std::printf("messages add up to %ld\n", pass_messages(1000));
}
