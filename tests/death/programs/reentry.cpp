// reentry - allocates in a signal handler, again and again, while the program is inside the heap.
//
// Large blocks alone, so that handler and program both take the slow path.
#include <signal.h>
#include <sys/time.h>

#include "misuse.hpp"

static void handle(int /*signal*/) { TARN_HEAP(free)(opaque(TARN_HEAP(malloc)(300'000))); }

TARN_MISUSE misuse() {
    struct sigaction action = {};
    action.sa_handler = handle;
    ::sigaction(SIGALRM, &action, nullptr);
    struct itimerval const every{.it_interval = {0, 50}, .it_value = {0, 50}};
    ::setitimer(ITIMER_REAL, &every, nullptr);
    while (true) {
        TARN_HEAP(free)(opaque(TARN_HEAP(malloc)(400'000)));
    }
}
