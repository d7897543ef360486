// heap/page_life.hpp - the lives of a user heap's page: in a lane, in none, in a lane again.
//
// Threads    enter(), leave(): whoever has locked the lane. look(): any, at any time
// Always     `life` is odd while the page is in a lane. It never has a value twice (but for 2^32
//            lives between two looks), so who finds it as it was finds the page as it was.
//            Lanes are type-stable: what look() reads of one may be stale, never elsewhere.
// Source     docs/design/heaps.md
// Tests      heaps/heap_end_explored.cpp
//
// A page has `life`, an atomic of std::uint32_t, and `lane`, an atomic of a pointer to a lane; a
// lane has `heap`, an atomic. Functions and not a class, since a page keeps the two in unions.
#pragma once

#include <atomic>
#include <cstdint>

namespace tarn::impl::heap::page_life {

/// Whether a page with this `life` is in a lane.
[[nodiscard]] constexpr bool is_in_lane(std::uint32_t life) noexcept { return life % 2 != 0; }

/// A page, as it was while it was in a lane.
template <class Lane, class Id>
struct sighting {
    std::uint32_t life = 0;  // even: it was in none
    Lane* lane = nullptr;
    Id heap{};
};

template <class Page, class Lane>
void enter(Page& page, Lane& lane) noexcept {
    // release: pairs with the acquire of `lane` in look(), which then sees the last life gone.
    page.lane.store(&lane, std::memory_order_release);
    // release: pairs with the acquire in look(); the lane is that of this life.
    page.life.store(page.life.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

template <class Page>
void leave(Page& page) noexcept {
    // relaxed: who must know has the lane's lock, or sees the lane's heap go.
    page.life.store(page.life.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

template <class Lane, class Id, class Page>
[[nodiscard]] sighting<Lane, Id> look(Page const& page) noexcept {
    for (;;) {
        // acquire: pairs with the release in enter(); lane and heap are as they were set then.
        std::uint32_t const life = page.life.load(std::memory_order_acquire);
        if (!is_in_lane(life)) {
            return {};
        }
        // acquire: the next look at `life` comes after.
        Lane* const lane = page.lane.load(std::memory_order_acquire);
        // The page may have left, and served as another since: then there is no lane there.
        if (page.life.load(std::memory_order_relaxed) != life) {
            continue;
        }
        // acquire: pairs with the release where a lane's heap goes; whoever sees that sees that its
        // pages left.
        Id const heap = lane->heap.load(std::memory_order_acquire);
        if (page.life.load(std::memory_order_relaxed) == life) {
            return {.life = life, .lane = lane, .heap = heap};
        }
    }
}

/// By whoever has locked the lane that was seen: whether the page is as it was.
template <class Page, class Sighting>
[[nodiscard]] bool is_still(Page const& page, Sighting const& seen) noexcept {
    return page.life.load(std::memory_order_relaxed) == seen.life;
}

}  // namespace tarn::impl::heap::page_life
