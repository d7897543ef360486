// A thread's own supply of chunks: no atomic operation while it lasts.
#include <cstdio>
#include <cstring>

#include <tarn/shm/magazine.hpp>

int main() {
    auto const made = tarn::shm::segment::create_anonymous(
        tarn::shm::segment_config{}.add_pool({.chunk_bytes = 256, .count = 100}));
    if (!made) {
        std::fprintf(stderr, "%s\n", made.error().text());
        return 1;
    }
    tarn::shm::pool_manager const pools{*made};
    {
        tarn::shm::magazine mine{pools, *pools.pool_for(256)};
        for (int i = 0; i < 1000; ++i) {
            tarn::shm::magazine_loan const scratch = mine.allocate();
            std::memset(scratch.bytes().data(), i, scratch.bytes().size());
        }
        // One that others shall read leaves the magazine for good.
        tarn::shm::magazine_loan text = mine.allocate();
        std::memcpy(text.bytes().data(), "hello", 5);
        tarn::shm::held const sent = std::move(text).share(5).value();
        std::printf("%.5s, and %u chunks in the magazine\n",
                    reinterpret_cast<char const*>(sent.bytes().data()), mine.size());
    }
    return pools.pool(0)->free == 100 ? 0 : 1;
}
