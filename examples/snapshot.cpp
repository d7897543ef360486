// A table that is changed while others read how it was: a thread, and a child.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory_resource>
#include <string>
#include <thread>

#include <tarn/region.hpp>
#include <tarn/snapshot.hpp>

namespace {

using accounts = std::pmr::map<std::pmr::string, long>;

long sum_of(accounts const& all) {
    long sum = 0;
    for (auto const& [name, amount] : all) {
        sum += amount;
    }
    return sum;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): who gets no memory ends
int main() {
    tarn::snapshot_memory memory;
    tarn::region region{&memory};
    auto* const all = region.make<accounts>(region.resource());
    long* const moves = region.make<long>(0);
    for (int i = 0; i < 1000; ++i) {
        all->emplace("account " + std::to_string(i), 100);
    }
    memory.set_root(all);

    tarn::snapshot const frozen = memory.take();

    // The child has the addresses free: pointers inside are right as they are.
    pid_t const child = ::fork();
    if (child == 0) {
        tarn::snapshot_view const view = frozen.map_in_place();
        ::_exit(sum_of(*view.root<accounts>()) == 100'000 ? 0 : 1);
    }

    // A thread of the writer looks elsewhere, and asks for each pointer where that is.
    tarn::snapshot_view const view = frozen.map();
    long seen = -1;
    std::thread reader{[&] { seen = *view.translate(moves); }};
    for (auto& [name, amount] : *all) {
        amount += 5;
        ++*moves;
    }
    reader.join();

    tarn::snapshot const later = memory.take();
    int status = -1;
    ::waitpid(child, &status, 0);
    std::printf("sum now %ld; moves seen by the thread: %ld; the child: %s\n", sum_of(*all), seen,
                status == 0 ? "all right" : "wrong");
    std::printf("the second snapshot copied %zu pages of %zu\n",
                memory.statistics().copied_bytes / 4096, memory.statistics().region_bytes / 4096);
    return status == 0 && seen == 0 && sum_of(*all) == 105'000 ? 0 : 1;
}
