// reader DESCRIPTOR SUM - another process: maps the snapshot that the descriptor leads to where its
// writer has it, walks what its root leads to by the pointers inside, and exits with 0 if the
// numbers add up to SUM. It answers with a line on standard output, waits for one on standard
// input, and looks once more: what its writer does meanwhile must not show.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory_resource>

#include "tarn/snapshot.hpp"

namespace {

std::uint64_t sum_of(tarn::snapshot_view const& view) {
    std::uint64_t sum = 0;
    for (std::uint64_t const each : *view.root<std::pmr::list<std::uint64_t>>()) {
        sum += each;
    }
    return sum;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): then it has failed
int main(int count, char** words) {
    if (count != 3) {
        return 2;
    }
    auto const wanted = std::strtoull(words[2], nullptr, 10);
    tarn::snapshot const shown = tarn::snapshot::adopt(std::atoi(words[1]));
    tarn::snapshot_view const view = shown.map_in_place();
    bool const right = view.is_in_place() && sum_of(view) == wanted;
    std::puts("read");
    std::fflush(stdout);
    if (std::getchar() == EOF) {
        return 3;
    }
    return right && sum_of(view) == wanted ? 0 : 1;
}
