// Containers with their elements inside: they may lie in a chunk, and be copied as bytes.
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <tarn/shm/fixed_string.hpp>
#include <tarn/shm/fixed_vector.hpp>
#include <tarn/shm/pool_manager.hpp>

namespace {

struct track {
    tarn::shm::fixed_string<31> name;
    tarn::shm::fixed_vector<std::uint32_t, 16> points;
};

}  // namespace

int main() {
    auto const made = tarn::shm::segment::create_anonymous(
        tarn::shm::segment_config{}.add_pool({.chunk_bytes = sizeof(track), .count = 3}));
    if (!made) {
        std::fprintf(stderr, "%s\n", made.error().text());
        return 1;
    }
    tarn::shm::pool_manager const pools{*made};
    auto written = pools.make<track>().value();
    written->name = "north";
    written->name += "-east";
    written->points = {3, 5, 7};
    written->points.insert(written->points.begin(), 2);
    bool const has_room = written->points.try_resize(17);

    auto const sent = std::move(written).share().value();
    track copy;
    std::memcpy(static_cast<void*>(&copy), sent.get(), sizeof copy);
    std::printf("%s: %zu points\n", copy.name.c_str(), copy.points.size());
    return !has_room && copy.name == "north-east" && copy.points.size() == 4 ? 0 : 1;
}
