// A message of several parts in one chunk, read where it lies, and checked.
#include <cstdint>
#include <cstdio>

#include <tarn/shm/message.hpp>
#include <tarn/shm/pool_manager.hpp>

namespace {

struct item {
    tarn::shm::shm_string name;
    std::uint64_t count = 0;
};

struct order {
    tarn::shm::shm_string customer;
    tarn::shm::shm_vector<item> items;
};

bool write(tarn::shm::message_builder& to) {
    order* const root = to.make<order>();
    if (root == nullptr || !to.assign(root->customer, "Ada") || !to.resize(root->items, 2)) {
        return false;
    }
    auto const items = root->items.elements();
    items[0].count = 3;
    items[1].count = 4;
    return to.assign(items[0].name, "tea") && to.assign(items[1].name, "milk");
}

/// The number of things, or -1 for what is no order.
long long read(tarn::shm::held const& chunk) {
    tarn::shm::message_view const message{chunk.bytes()};
    order const* const root = message.root<order>();
    if (root == nullptr) {
        return -1;
    }
    auto const customer = message.get(root->customer);
    auto const items = message.get(root->items);
    if (!customer || !items) {
        return -1;
    }
    long long count = 0;
    for (item const& each : *items) {
        auto const name = message.get(each.name);
        if (!name) {
            return -1;
        }
        std::printf("%.*s: %llu %.*s\n", static_cast<int>(customer->size()), customer->data(),
                    static_cast<unsigned long long>(each.count), static_cast<int>(name->size()),
                    name->data());
        count += static_cast<long long>(each.count);
    }
    return count;
}

}  // namespace

int main() {
    auto const made = tarn::shm::segment::create_anonymous(
        tarn::shm::segment_config{}.add_pool({.chunk_bytes = 4096, .count = 3}));
    if (!made) {
        std::fprintf(stderr, "%s\n", made.error().text());
        return 1;
    }
    tarn::shm::pool_manager const pools{*made};
    auto chunk = pools.allocate(4096).value();
    tarn::shm::message_builder building{chunk.bytes()};
    if (!write(building) || !chunk.resize(building.used_bytes())) {
        return 1;
    }
    auto const sent = std::move(chunk).share().value();
    return read(pools.hold(sent.reference()).value()) == 7 ? 0 : 1;
}
