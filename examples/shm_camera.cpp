// Two processes: one takes pictures, the other looks at them where they lie, without a copy.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include <tarn/shm/loan.hpp>
#include <tarn/shm/pool_manager.hpp>
#include <tarn/shm/segment.hpp>

namespace {

constexpr std::uint32_t pictures = 10;

struct picture {
    std::uint32_t number;
    std::uint32_t brightness;
    std::uint8_t pixels[64 * 64];
};

tarn::shm::result<tarn::shm::segment> attach(std::string const& name) {
    // Whoever comes first makes it. A pool of pictures: 8 of them can be on their way at once.
    return tarn::shm::segment::create_or_attach(
        name, tarn::shm::segment_config{}.add_pool({.chunk_bytes = sizeof(picture), .count = 8}));
}

/// References go through a pipe here; a queue in shared memory, or a socket, would do as well.
int take_pictures(std::string const& name, int to, int from) {
    auto const camera = attach(name);
    if (!camera) {
        std::fprintf(stderr, "camera: %s\n", camera.error().text());
        return 1;
    }
    tarn::shm::pool_manager const pools{*camera};
    for (std::uint32_t i = 1; i <= pictures; ++i) {
        auto taken = pools.make<picture>();
        if (!taken) {
            return 2;  // errc::exhausted: nobody looks at them
        }
        (*taken)->number = i;
        (*taken)->brightness = 0;
        for (std::uint8_t& pixel : (*taken)->pixels) {
            pixel = static_cast<std::uint8_t>(i);
            (*taken)->brightness += pixel;
        }
        auto const shared = std::move(*taken).share();
        if (!shared) {
            return 3;
        }
        // It stays held here until the other one has it.
        std::uint64_t const reference = shared->reference().value();
        char answer = 0;
        if (::write(to, &reference, sizeof reference) != sizeof reference ||
            ::read(from, &answer, 1) != 1) {
            return 4;
        }
    }
    return 0;
}

int look(std::string const& name, int from, int to) {
    auto const screen = attach(name);
    if (!screen) {
        std::fprintf(stderr, "screen: %s\n", screen.error().text());
        return 1;
    }
    tarn::shm::pool_manager const pools{*screen};
    std::uint32_t seen = 0;
    std::uint64_t reference = 0;
    while (::read(from, &reference, sizeof reference) == sizeof reference) {
        auto const got = pools.hold_as<picture>(tarn::shm::reference{reference});
        if (!got || ::write(to, "!", 1) != 1) {
            return 2;
        }
        std::uint32_t sum = 0;
        for (std::uint8_t const pixel : (*got)->pixels) {
            sum += pixel;
        }
        seen += sum == (*got)->brightness && (*got)->number == seen + 1 ? 1U : 0U;
    }
    std::printf("%u pictures, %d faults\n", seen, screen->audit());
    return seen == pictures ? 0 : 3;
}

}  // namespace

int main() {
    std::string const name = "camera-" + std::to_string(::getpid());
    int there[2];
    int back[2];
    if (::pipe(there) != 0 || ::pipe(back) != 0) {
        return 1;
    }
    pid_t const child = ::fork();
    if (child == 0) {
        ::close(there[0]);
        ::close(back[1]);
        ::_exit(take_pictures(name, there[1], back[0]));
    }
    ::close(there[1]);
    ::close(back[0]);
    int const seen = look(name, there[0], back[1]);
    ::close(back[1]);
    int status = 0;
    ::waitpid(child, &status, 0);
    bool const is_removed = tarn::shm::segment::remove(name).has_value();
    return seen == 0 && status == 0 && is_removed ? 0 : 1;
}
