// A pool for the nodes of a tree: they lie close together, and go all at once with the pool.
#include <cstdio>

#include <tarn/object_pool.hpp>

namespace {

struct node {
    int key;
    node* left = nullptr;
    node* right = nullptr;

    explicit node(int of) : key{of} {}
};

}  // namespace

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
}
