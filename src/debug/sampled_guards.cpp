#include "debug/sampled_guards.hpp"

#include <algorithm>
#include <atomic>

#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "platform/os.hpp"
#include "heap/process.hpp"
#include "debug/fault_handler.hpp"
#include "debug/page_source.hpp"

namespace tarn::impl::debug {

using platform::guard_method;
using platform::os;

constinit checked_heap sampled_heap{heap_number::sampled, block_source{}};  // until configured

namespace {

// Whoever wants samples this often wants guards for all of them, whatever that costs.
constexpr std::size_t rare_interval_bytes_min = 1 * MiB;

enum class phase : std::uint8_t {
    off,       // for good
    waiting,   // for the first samples to go by
    starting,  // one thread looks what the system allows
    on
};

struct sampling_state {
    // acquire and release: who sees `on` sees what the thread that started has written.
    std::atomic<phase> now{phase::off};
    std::atomic<std::uint32_t> gone_by{0};
    std::atomic<std::uint64_t> last_ms{0};
    guard_sampling wanted{};
    bool was_confined = false;
};

constinit sampling_state sampling;

void end_for_good() noexcept {
    sampling.now.store(phase::off, std::memory_order_relaxed);
    heap::process.guards_refused.fetch_add(1, std::memory_order_relaxed);
}

/// By one thread. What it calls may be wrapped by others, and allocate.
bool start_guards() noexcept {
    if (os::guards_by() == guard_method::nothing ||
        !install_fault_handler(sampling.wanted.handler, sampling.wanted.walk)) {
        end_for_good();
        return false;
    }
    sampling.was_confined = os::is_confined();
    sampling.now.store(phase::on, std::memory_order_release);
    return true;
}

bool may_guard() noexcept {
    phase seen = sampling.now.load(std::memory_order_acquire);
    if (seen == phase::on) [[likely]] {
        return true;
    }
    return seen == phase::waiting &&
           sampling.gone_by.fetch_add(1, std::memory_order_relaxed) >= samples_before_guards &&
           sampling.now.compare_exchange_strong(seen, phase::starting, std::memory_order_relaxed) &&
           start_guards();
}

/// Whether the last one is long enough ago: a program that does nothing but allocate large blocks
/// would else spend a few hundredths of its time on this.
bool is_time() noexcept {
    if (sampling.wanted.interval_bytes < rare_interval_bytes_min) {
        return true;
    }
    std::uint64_t const now = os::monotonic_ms();
    return sampling.last_ms.exchange(now, std::memory_order_relaxed) != now;
}

std::uint64_t most_at_once() noexcept {
    return os::guards_by() == guard_method::markers ? guarded_samples_max : protected_samples_max;
}

}  // namespace

void configure_sampled_guards(guard_sampling const& wanted) noexcept {
    check_options checks;
    checks.fill_bytes_max = 0;
    checks.quarantine_bytes = sample_quarantine_bytes;
    checks.quarantine_block_bytes = page_run_bytes();
    checks.quarantine_follows_live = false;
    checks.stack_frames = std::min(wanted.stack_frames, record_stack_table::frames_max);
    checks.walk = wanted.walk;
    checks.frees_per_walk = 0;
    checks.page_front_bytes_max = 64;
    checks.checks_claims = false;
    checks.stacks_by_record = true;
    checks.handler = wanted.handler;
    sampled_heap.configure(checks, sample_source());
    sampling.wanted = wanted;
    sampling.gone_by.store(0, std::memory_order_relaxed);
    sampling.now.store(wanted.is_on ? phase::waiting : phase::off, std::memory_order_relaxed);
}

void* allocate_guarded_sample(heap::operation const& asked) noexcept {
    // A block without bytes has no page; before one of a large alignment there would be many.
    if (asked.bytes == 0 || asked.bytes > guarded_bytes_max || asked.alignment > os::page_bytes() ||
        !may_guard() || !is_time() || figures_of_page_source().samples >= most_at_once()) {
        return nullptr;
    }
    base::errno_keeper const keeper;
    // A sandbox that was entered since may end the process for a system call it does not know.
    if (os::is_confined() != sampling.was_confined) {
        end_for_good();
        return nullptr;
    }
    void* const block = sampled_heap.allocate(asked);
    if (block == nullptr) {
        if (figures_of_page_source().are_refused) {
            end_for_good();
        }
        return nullptr;
    }
    heap::process.guarded_so_far.fetch_add(1, std::memory_order_relaxed);
    return block;
}

bool deallocate_guarded_sample(heap::operation const& asked) noexcept {
    base::errno_keeper const keeper;
    return sampled_heap.deallocate(asked);
}

heap::found_block find_guarded_sample(void const* ptr) noexcept {
    block_record const* const record = find_guarded(ptr).record;
    if (record == nullptr || record->current() != block_state::live ||
        base::address_of(ptr) - base::address_of(record->user) >= record->bytes) {
        return {};
    }
    return {.start = record->user, .bytes = record->bytes};
}

}  // namespace tarn::impl::debug
