#include "debug/mp_pool.hpp"

#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/bits.hpp"
#include "base/errno_keeper.hpp"
#include "heap/process.hpp"
#include "debug/debug_mode.hpp"
#include "debug/json_writer.hpp"
#include "debug/leaks.hpp"
#include "debug/mp_text.hpp"
#include "debug/report.hpp"

namespace tarn::impl::debug {

using platform::os;

constinit mp_pool mp;

namespace {

// How long end() sleeps between looks at calls that are under way.
constexpr std::uint32_t end_step_ms = 1;

constexpr std::size_t request_bytes_max = PTRDIFF_MAX / 2;

std::size_t slab_of(std::size_t bytes) noexcept {
    return bytes <= mp_slab_bytes_min
               ? 0
               : static_cast<std::size_t>(std::bit_width((bytes - 1) / mp_slab_bytes_min));
}

static_assert(std::bit_width((std::size_t{33} - 1) / 32) == 1);
static_assert(std::bit_width((std::size_t{64} - 1) / 32) == 1);
static_assert(std::bit_width((mp_slab_bytes_max - 1) / 32) == mp_slab_count - 1);

/// A record's size_class: 0 of larger blocks, else the slab's number and 1.
std::uint8_t class_of(std::size_t slab) noexcept { return static_cast<std::uint8_t>(slab + 1); }

std::uint32_t thread_number() noexcept {
    std::uint32_t const known = heap::own_heap()->thread_id.load(std::memory_order_relaxed);
    return known != 0 ? known : os::thread_id();
}

}  // namespace

// --- a call that is under way --------------------------------------------------------------------

class mp_pool::call {
public:
    call(mp_pool& of, char const* operation, void const* block, void const* caller) noexcept {
        // A thread without a heap would have to ask the system for its number each time.
        if (heap::this_thread == &heap::empty_heap) [[unlikely]] {
            static_cast<void>(heap::enter_thread());
        }
        count_ = &of.calls_[thread_number() % of.calls_.size()].calls;
        // seq_cst, both, and in end(): either end() sees this call, or this call sees that it ends.
        count_->fetch_add(1, std::memory_order_seq_cst);
        is_open_ = of.phase_.load(std::memory_order_seq_cst) == ready ||
                   of.open_slow(operation, block, caller);
    }

    ~call() {
        // release: pairs with the acquire in end(); what the call has done is done.
        count_->fetch_sub(1, std::memory_order_release);
    }

    call(call const&) = delete;
    call& operator=(call const&) = delete;

    explicit operator bool() const noexcept { return is_open_; }

private:
    heap::undiverted served_;
    std::atomic<std::int32_t>* count_ = nullptr;
    bool is_open_ = false;
};

bool mp_pool::open_slow(char const* operation, void const* block, void const* caller) noexcept {
    for (;;) {
        switch (phase_.load(std::memory_order_acquire)) {
            case never:
                static_cast<void>(start({}));  // or another thread was faster
                break;
            case starting:
                os::wait_for(phase_, starting, end_step_ms);
                break;
            case ready:
                return true;
            case ending:
                report_misuse(operation, "during mp_destroy", block, caller);
                return false;
            default:
                report_misuse(operation, "after mp_destroy", block, caller);
                return false;
        }
    }
}

// --- memory --------------------------------------------------------------------------------------

std::byte* mp_pool::allocate_memory(block_source::request& wanted) noexcept {
    if (mp.use_slabs_ && wanted.user_bytes <= mp_slab_bytes_max) {
        std::size_t const number = slab_of(wanted.user_bytes);
        slab::slot const got = mp.slabs_[number].take(thread_number(), wanted.caller);
        if (got.start != nullptr && wanted.zeroed) {
            // What lies before the program's part leads to the record.
            std::memset(got.start + mp.front_bytes(), 0, wanted.user_bytes);
        }
        wanted.size_class = class_of(number);
        wanted.is_recycled = got.is_recycled;
        wanted.source_bytes = mp.slabs_[number].slot_bytes();
        return got.start;
    }
    std::byte* const start = heap_source().allocate(wanted);
    if (start != nullptr) {
        mp.larger_takes_.fetch_add(1, std::memory_order_relaxed);
        std::uint64_t const taken = mp.larger_taken_.fetch_add(1, std::memory_order_relaxed) + 1;
        std::uint64_t peak = mp.larger_peak_.load(std::memory_order_relaxed);
        while (peak < taken &&
               !mp.larger_peak_.compare_exchange_weak(peak, taken, std::memory_order_relaxed)) {
        }
    }
    return start;
}

std::size_t mp_pool::deallocate_memory(block_record const& of) noexcept {
    if (of.size_class != 0) {
        slab& from = mp.slabs_[of.size_class - 1U];
        from.give(of.user - mp.front_bytes(), thread_number());
        return from.slot_bytes();
    }
    mp.larger_taken_.fetch_sub(1, std::memory_order_relaxed);
    return heap_source().deallocate(of);
}

std::size_t mp_pool::room(block_record const& of) noexcept {
    return of.size_class != 0 ? mp.slabs_[of.size_class - 1U].slot_bytes() - mp.front_bytes()
                              : heap_source().room(of);
}

// --- beginning and end ---------------------------------------------------------------------------

void mp_pool::configure(mp_settings const& wanted) noexcept {
    check_options checks;
    checks.front_bytes = base::align_up(wanted.guard_before_bytes, sizing::quantum) + mp_tag_bytes;
    checks.behind_bytes = base::align_up(wanted.guard_after_bytes, sizing::quantum);
    checks.guards = wanted.guards;
    checks.fill_bytes_max = wanted.fill_bytes_max;
    checks.quarantine_bytes = wanted.quarantine_bytes;
    checks.stack_frames = wanted.stack_frames;
    checks.walk = wanted.walk;
    checks.quarantine_follows_live = false;
    checks.frees_per_walk = 0;  // such walks lead threads to each other's blocks; see check_all()
    checks.handler = &handle;
    heap_.configure(checks);
    for (std::size_t number = 0; number < slabs_.size(); ++number) {
        slabs_[number].configure((mp_slab_bytes_min << number) + checks.front_bytes +
                                 checks.behind_bytes);
    }
    use_slabs_ = wanted.use_slabs;
    aborts_.store(wanted.aborts, std::memory_order_relaxed);
    output_.configure(wanted.destination);
}

int mp_pool::start(mp_settings const& wanted) noexcept {
    std::uint32_t seen = phase_.load(std::memory_order_relaxed);
    do {
        if (seen == ending) {
            return EBUSY;
        }
        if (seen == starting || seen == ready) {
            return EALREADY;
        }
        // acquire: pairs with the release in end(); its traces are gone.
    } while (!phase_.compare_exchange_weak(seen, starting, std::memory_order_acquire,
                                           std::memory_order_relaxed));
    configure(wanted);
    // seq_cst: as in call; it releases the configuration to open_slow(), too.
    phase_.store(ready, std::memory_order_seq_cst);
    os::wake_all(phase_);
    return 0;
}

int mp_pool::end(void const* caller) noexcept {
    heap::undiverted const served;
    heap::enter_if_new();
    if (output_.is_calling()) {
        return EDEADLK;
    }
    std::uint32_t seen = ready;
    if (!phase_.compare_exchange_strong(seen, ending, std::memory_order_seq_cst)) {
        report_misuse("mp_destroy", seen == never ? "before mp_init" : "after mp_destroy", nullptr,
                      caller);
        return EALREADY;
    }
    for (call_count& each : calls_) {
        // seq_cst: as in call; below zero where the call was begun before a fork
        while (each.calls.load(std::memory_order_seq_cst) > 0) {
            os::wait_for(phase_, ending, end_step_ms);
        }
    }
    static_cast<void>(heap_.check_all("mp_destroy", nullptr));
    heap_.empty_quarantine();
    write_stats();
    static_cast<void>(write_leaks());
    heap_.discard_all();
    for (slab& each : slabs_) {
        each.release();
    }
    larger_peak_.store(0, std::memory_order_relaxed);
    larger_takes_.store(0, std::memory_order_relaxed);
    heap_.forget_figures();
    // release: pairs with the acquires in start() and open_slow().
    phase_.store(ended, std::memory_order_release);
    return 0;
}

// --- operations ----------------------------------------------------------------------------------

void* mp_pool::allocate(heap::operation const& asked) noexcept {
    if (asked.bytes > request_bytes_max) [[unlikely]] {
        return refuse("mp_alloc", 1, asked.bytes, asked.caller);
    }
    call const open{*this, "mp_alloc", nullptr, asked.caller};
    if (!open) {
        errno = ENOMEM;
        return nullptr;
    }
    return heap_.allocate(asked);
}

void* mp_pool::reallocate(heap::operation const& asked) noexcept {
    if (asked.bytes > request_bytes_max) [[unlikely]] {
        return refuse("mp_realloc", 1, asked.bytes, asked.caller);
    }
    call const open{*this, "mp_realloc", asked.block, asked.caller};
    void* result = nullptr;
    if (!open) {
        errno = ENOMEM;
    } else if (!heap_.reallocate(asked, &result)) {
        report_foreign("mp_realloc", asked.block, asked.caller);
        errno = EINVAL;
    }
    return result;
}

void mp_pool::deallocate(heap::operation const& asked) noexcept {
    base::errno_keeper const keeper;
    call const open{*this, "mp_free", asked.block, asked.caller};
    if (open && !heap_.deallocate(asked)) {
        report_foreign("mp_free", asked.block, asked.caller);
    }
}

std::size_t mp_pool::usable_bytes(void* block, void const* caller) noexcept {
    base::errno_keeper const keeper;
    call const open{*this, "mp_usable_size", block, caller};
    if (!open) {
        return 0;
    }
    block_record const* const record = checked_heap::find_start(block);
    if (record != nullptr && record->owner == heap_number::mp &&
        record->current() == block_state::live) {
        return record->bytes;
    }
    report_foreign("mp_usable_size", block, caller);
    return 0;
}

bool mp_pool::describe(void* ptr, finding& found) noexcept {
    block_facts& block = found.block;
    if (block_record const* const record = heap_.find(ptr)) {
        block = facts_of(*record);
    } else {
        for (std::size_t number = 0; number < slabs_.size() && block.user == nullptr; ++number) {
            if (std::byte const* const slot = slabs_[number].slot_around(ptr)) {
                // Its record is another block's by now.
                block.user = slot + front_bytes();
                block.bytes = mp_slab_bytes_min << number;
                block.owner = heap_number::mp;
            }
        }
    }
    if (block.user == nullptr) {
        return false;
    }
    found.what = block.user != ptr                  ? fault::interior_free
                 : block.state != block_state::live ? fault::double_free
                                                    : fault::mismatched_free;
    return true;
}

void mp_pool::report_foreign(char const* operation, void* ptr, void const* caller) noexcept {
    finding found;
    found.what = fault::foreign_free;
    found.operation = operation;
    found.ptr = ptr;
    if (!describe(ptr, found)) {
        heap::found_block const outer = heap::find_block_in_heap(ptr);
        if (outer.start != nullptr) {
            found.block.user = static_cast<std::byte const*>(outer.start);
            found.block.bytes = outer.bytes;
            found.block.state = block_state::live;
            found.what = outer.start == ptr ? fault::mismatched_free : fault::interior_free;
        }
    }
    heap_.report(found, caller);
}

bool mp_pool::report_for_heap(heap::misuse const& event) noexcept {
    // A thread past its exit hook is beneath a lock here.
    if (phase_.load(std::memory_order_relaxed) != ready ||
        event.kind != heap::misuse_kind::interior_pointer ||
        heap::this_thread == &heap::finished_heap) {
        return false;
    }
    call const open{*this, event.operation, event.ptr, event.caller};
    finding found;
    found.operation = event.operation;
    found.ptr = event.ptr;
    // The ordinary heap's functions take any address, but change only what lies at a block's start.
    if (!open || !describe(const_cast<void*>(event.ptr), found) ||
        found.block.owner != heap_number::mp) {
        return false;
    }
    heap_.report(found, event.caller);
    return true;
}

// --- reports -------------------------------------------------------------------------------------

void mp_pool::handle(finding const& found) noexcept {
    {
        report_room room;
        if (mp.output_.format() == mp_format::json) {
            static_cast<void>(describe_finding_json(found, process_lookup(), room.sink()));
        } else {
            static_cast<void>(describe_finding(found, process_lookup(), room.sink()));
        }
        mp.output_.write(room.sink().view());
    }
    if (mp.aborts_.load(std::memory_order_relaxed)) {
        std::abort();
    }
}

void mp_pool::report_misuse(char const* operation, std::string_view text, void const* block,
                            void const* caller) noexcept {
    base::errno_keeper const keeper;
    // Who starts or ends the pool changes the destination, or takes the receiver away.
    bool const is_ready = phase_.load(std::memory_order_acquire) == ready;
    base::text_buffer<512> line;
    if (is_ready && output_.format() == mp_format::json) {
        json_writer json{line};
        base::text_buffer<256> signature;
        signature << "mp-misuse: " << operation << ' ' << text;
        json.open('{');
        json.key("tool");
        json.text("tarn");
        json.key("kind");
        json.text("mp-misuse");
        json.key("signature");
        json.text(signature.view());
        json.key("address");
        json.address(base::address_of(block));
        json.key("caller");
        json.address(base::address_of(caller));
        json.close('}');
    } else {
        line << "tarn: mp-misuse: " << operation;
        if (block != nullptr) {
            line << " of " << block;
        }
        line << ' ' << text << "; caller " << caller;
    }
    line << '\n';
    if (is_ready) {
        output_.write(line.view());
    } else {
        os::write_all(mp_destination::standard_error, line.view().data(), line.view().size());
    }
    if (aborts_.load(std::memory_order_relaxed)) {
        std::abort();
    }
}

void* mp_pool::refuse(char const* operation, std::size_t count, std::size_t bytes,
                      void const* caller) noexcept {
    call const open{*this, operation, nullptr, caller};
    if (open) {
        base::text_buffer<96> text;
        text << "of ";
        if (count != 1) {
            text << count << " * ";
        }
        text << bytes << " bytes: more than there can be";
        report_misuse(operation, text.view(), nullptr, caller);
    }
    errno = ENOMEM;
    return nullptr;
}

// --- figures -------------------------------------------------------------------------------------

mp_figures mp_pool::measure() noexcept {
    mp_figures now;
    now.all = heap_.figures();
    heap_.for_each_live([&now](block_record const& each) {
        ++now.rows[each.size_class != 0 ? each.size_class - 1U : mp_slab_count].live;
    });
    for (std::size_t number = 0; number < slabs_.size(); ++number) {
        slab_figures const of = slabs_[number].figures();
        mp_row& row = now.rows[number];
        row.block_bytes = mp_slab_bytes_min << number;
        row.slots = of.slots;
        row.live = std::min(row.live, of.taken);
        row.held = of.taken - row.live;
        row.peak = of.taken_peak;
        row.chunks = of.chunks;
        row.chunk_bytes = of.chunk_bytes;
        row.allocations = of.takes;
    }
    mp_row& larger = now.rows[mp_slab_count];
    std::uint64_t const taken = larger_taken_.load(std::memory_order_relaxed);
    larger.live = std::min(larger.live, taken);
    larger.held = taken - larger.live;
    larger.peak = larger_peak_.load(std::memory_order_relaxed);
    larger.allocations = larger_takes_.load(std::memory_order_relaxed);
    return now;
}

mp_figures mp_pool::figures(void const* caller) noexcept {
    base::errno_keeper const keeper;
    call const open{*this, "mp_get_stats", nullptr, caller};
    return open ? measure() : mp_figures{};
}

std::size_t mp_pool::check_all(void const* caller) noexcept {
    base::errno_keeper const keeper;
    call const open{*this, "mp_check_all", nullptr, caller};
    return open ? heap_.check_all("mp_check_all", caller).damaged_blocks : 0;
}

void mp_pool::write_stats() noexcept {
    base::text_buffer<4096> text;
    mp_figures const now = measure();
    if (output_.format() == mp_format::json) {
        describe_mp_stats_json(now, text);
    } else {
        describe_mp_stats(now, text);
    }
    output_.write(text.view());
}

std::size_t mp_pool::write_leaks() noexcept {
    leak_groups<os> groups;
    heap_.for_each_live([&groups](block_record const& each) {
        groups.add(
            {.allocated = each.allocated, .bytes = each.bytes, .by = each.by, .owner = each.owner});
    });
    suppressions none;
    report_room room;
    leak_totals const found = report_leaks(
        groups.sorted(), groups.uncounted(), none, process_lookup(),
        {.style = output_.format() == mp_format::json ? report_style::json : report_style::text,
         .write = [](std::string_view text) noexcept { mp.output_.write(text); }},
        room.sink());
    return found.blocks;
}

void mp_pool::dump_stats(void const* caller) noexcept {
    base::errno_keeper const keeper;
    call const open{*this, "mp_dump_stats", nullptr, caller};
    if (open) {
        write_stats();
    }
}

std::size_t mp_pool::dump_leaks(void const* caller) noexcept {
    base::errno_keeper const keeper;
    call const open{*this, "mp_dump_leaks", nullptr, caller};
    return open ? write_leaks() : 0;
}

// --- fork ----------------------------------------------------------------------------------------

void mp_pool::hold_for_fork() noexcept {
    heap_.lock_for_fork();
    for (slab& each : slabs_) {
        each.lock_for_fork();
    }
}

void mp_pool::release_after_fork(fork_side side) noexcept {
    for (slab& each : slabs_) {
        each.unlock_after_fork();
    }
    heap_.unlock_after_fork();
    if (side == fork_side::parent) {
        return;
    }
    for (call_count& each : calls_) {
        each.calls.store(0, std::memory_order_relaxed);
    }
    output_.forget_other_threads();
    // What another thread had in hand, nobody ends. Half an end leaves nothing to use.
    std::uint32_t const seen = phase_.load(std::memory_order_relaxed);
    if (seen == starting || seen == ending) {
        phase_.store(seen == starting ? never : ended, std::memory_order_relaxed);
    }
}

}  // namespace tarn::impl::debug
