// testing.cpp - the scopes of tarn/testing.hpp in a program that is linked with libtarn_core.so:
// under libtarn.so they see malloc, operator new and what libc allocates; else the tarn_ functions
// alone. Prints the same in both cases, unless something is wrong.
#include <stdio.h>
#include <string.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>

#include <tarn/testing.hpp>

namespace {

bool wrong = false;

void check(char const* what, bool holds) {
    std::printf("%s: %s\n", what, holds ? "yes" : "NO");
    wrong = wrong || !holds;
}

void fill_a_map() {
    std::map<int, std::string> map;
    for (int i = 0; i < 5; ++i) {
        map[i] = std::string(100, 'x');
    }
}

}  // namespace

int main() {
    std::puts("begun");  // stdout has its buffer
    bool const on_tarn = std::getenv("LD_PRELOAD") != nullptr;
    auto const if_on_tarn = [on_tarn](std::uint64_t count) { return on_tarn ? count : 0; };

    check("malloc is seen if it is Tarn's", tarn::sees_malloc() == on_tarn);
    check("tarn_malloc is seen",
          tarn::count_allocations([] { tarn_free(tarn_malloc(10)); }).allocations == 1);
    tarn::allocation_counts const of_map = tarn::count_allocations(fill_a_map);
    check("new is seen", of_map.allocations == if_on_tarn(10));
    check("all of it was freed", of_map.live_blocks() == 0 && of_map.live_bytes() == 0);
    tarn::allocation_counts const of_libc = tarn::count_allocations([] {
        char* text = nullptr;
        if (::asprintf(&text, "%0100d", 1) == 100) {
            std::free(text);
        }
    });
    check("libc is seen", (of_libc.allocations != 0) == on_tarn && of_libc.live_blocks() == 0);

    {
        tarn::fail_scope const scope{tarn::fail_plan::always()};
        std::FILE* const file = std::fopen("/etc/passwd", "r");
        check("libc fails", (file == nullptr && errno == ENOMEM) == on_tarn);
        if (file != nullptr) {
            std::fclose(file);
        }
    }

    std::uint64_t leaks = 0;
    std::uint64_t const failures = tarn::for_each_failure(
        fill_a_map,
        [&leaks](tarn::failure_run const& run) { leaks += run.counts.live_blocks() != 0 ? 1 : 0; });
    check("each new fails once", failures == if_on_tarn(10) && leaks == 0);

    std::thread{[if_on_tarn] {
        tarn::no_alloc_scope const scope{{.action = tarn::on_breach::count}};
        fill_a_map();
        check("a breach is seen in any thread", scope.breaches() == if_on_tarn(10));
    }}.join();
    return wrong ? 1 : 0;
}
