// A list through chunks, by pointers that mean the same wherever the segment lies.
#include <cstdint>
#include <cstdio>

#include <tarn/shm/pool_manager.hpp>
#include <tarn/shm/pool_registry.hpp>
#include <tarn/shm/relative_ptr.hpp>
#include <tarn/shm/self_ptr.hpp>

namespace {

struct node {
    std::uint64_t value = 0;
    tarn::shm::relative_ptr<node> next;       // into any segment
    tarn::shm::self_ptr<std::uint64_t> best;  // into this chunk
};

}  // namespace

int main() {
    tarn::shm::segment const one =
        tarn::shm::segment::create_anonymous(
            tarn::shm::segment_config{}.add_pool({.chunk_bytes = sizeof(node), .count = 3}))
            .value();
    tarn::shm::pool_manager const pools{one};
    auto first = pools.make<node>().value();
    auto second = pools.make<node>().value();
    first->value = 1;
    second->value = 2;
    first->next = tarn::shm::relative_ptr<node>{one, second.get()};
    first->best = &first->value;

    // The same segment once more, at another address: the way another process sees it.
    tarn::shm::segment const two = tarn::shm::segment::attach_descriptor(one.descriptor()).value();
    auto const sent = std::move(first).share().value();
    auto const got = tarn::shm::pool_manager{two}.hold_as<node>(sent.reference()).value();
    node const* const next = got->next.get();
    std::printf("at %p and %p: %llu, then %llu\n", static_cast<void const*>(sent.get()),
                static_cast<void const*>(got.get()), static_cast<unsigned long long>(*got->best),
                static_cast<unsigned long long>(next->value));

    // What a broken process may have written leads nowhere, not out of the segment.
    auto const rubbish = tarn::shm::relative_ptr<node>::of_word(~std::uint64_t{0});
    bool const is_found = tarn::shm::pool_registry::base_of(one.id()) == one.base();
    return next->value == 2 && rubbish.get() == nullptr && is_found ? 0 : 1;
}
