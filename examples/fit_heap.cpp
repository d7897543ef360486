// Four policies on the same few requests: which holes they use, and what that leaves.
#include <array>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <string>

#include <tarn/fit_heap.hpp>

namespace {

/// One character for 16 bytes: # live, . free.
std::string picture(tarn::fit_heap const& heap) {
    std::string text;
    bool const is_whole =
        heap.for_each_block([&](std::byte* /*start*/, std::size_t bytes, bool is_live) {
            text.append((bytes + 8) / 16, is_live ? '#' : '.');
        });
    return is_whole ? text : text + "damaged";
}

void run(char const* name, tarn::fit policy) {
    alignas(16) std::array<std::byte, 912> memory{};
    tarn::fit_heap heap{memory, {.policy = policy}};
    std::array<void*, 9> blocks{};
    constexpr std::array<std::size_t, 9> sizes{100, 40, 50, 40, 200, 40, 90, 40, 60};
    for (std::size_t i = 0; i < blocks.size(); ++i) {
        blocks[i] = heap.allocate(sizes[i]);
    }
    for (std::size_t i = 0; i < blocks.size(); i += 2) {
        heap.deallocate(blocks[i]);
    }
    std::string refused;
    for (std::size_t const bytes : {50U, 80U, 100U, 200U}) {
        if (heap.try_allocate(bytes) == nullptr) {
            refused += " " + std::to_string(bytes);
        }
    }
    tarn::fit_figures const figures = heap.figures();
    std::printf("%-5s %s  %zu holes, %2.0f %% fragmented%s%s\n", name, picture(heap).c_str(),
                figures.holes, 100 * figures.external_fragmentation(),
                refused.empty() ? "" : ", refused:", refused.c_str());
}

}  // namespace

int main() {
    try {
        run("first", tarn::fit::first);
        run("next", tarn::fit::next);
        run("best", tarn::fit::best);
        run("worst", tarn::fit::worst);
    } catch (std::exception const& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
