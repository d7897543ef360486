// What programs call: see explorer.hpp. The engine: engine.hpp.
#include "explorer/explorer.hpp"

#include "explorer/engine.hpp"

namespace tarn::test {

explorer* explorer::current = nullptr;

exploration explore(scenario_maker const& make, exploring const& how) {
    return explorer{make, how}.explore();
}

exploration replay(scenario_maker const& make, std::string_view schedule, exploring const& how) {
    return explorer{make, how}.replay(schedule);
}

void require(bool holds, char const* text) {
    if (!holds && explorer::current != nullptr) {
        explorer::current->fail(text);
    }
}

void bury(void const* start, std::size_t bytes) {
    // A step, since it depends on all accesses to these bytes.
    if (explorer* const by = explorer::active(); by != nullptr) {
        by->step({.what = "bury",
                  .place = start,
                  .kind = access::write,
                  .is_full = true,
                  .bytes = bytes});
        by->end_step();
    }
    if (explorer::current != nullptr) {
        explorer::current->bury(static_cast<std::byte const*>(start), bytes);
    }
}

void unbury(void const* start, std::size_t bytes) {
    if (explorer::current != nullptr) {
        explorer::current->unbury(static_cast<std::byte const*>(start), bytes);
    }
}

unsigned explored_thread() noexcept {
    return explorer::current == nullptr ? nobody : explorer::current->thread();
}

}  // namespace tarn::test
