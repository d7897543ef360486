#include "debug/fork.hpp"

#include "debug/debug_mode.hpp"
#include "debug/mp_pool.hpp"
#include "debug/sampled_guards.hpp"

namespace tarn::impl::debug {

void hold_for_fork() noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    checks_mutex.lock();
    program_heap.lock_for_fork();
    sampled_heap.lock_for_fork();
    mp.hold_for_fork();
    records.lock_for_fork();
}

void release_after_fork(fork_side side) noexcept TARN_NO_THREAD_SAFETY_ANALYSIS {
    records.unlock_after_fork();
    mp.release_after_fork(side);
    sampled_heap.unlock_after_fork();
    program_heap.unlock_after_fork();
    checks_mutex.unlock();
}

}  // namespace tarn::impl::debug
