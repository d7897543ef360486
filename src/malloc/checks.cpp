#include "malloc/checks.hpp"

#include <array>
#include <atomic>
#include <cstdlib>

#include "base/text.hpp"
#include "base/units.hpp"
#include "platform/os.hpp"
#include "platform/stack_walk.hpp"
#include "platform/symbols_text.hpp"
#include "platform/threads.hpp"
#include "control/live_stats.hpp"
#include "control/options.hpp"
#include "control/report.hpp"
#include "debug/debug_mode.hpp"
#include "debug/fault_handler.hpp"
#include "debug/leaks.hpp"
#include "debug/page_source.hpp"
#include "debug/report.hpp"
#include "debug/sampled_guards.hpp"

namespace tarn::impl::checks {

using platform::os;

namespace {

constexpr std::size_t report_bytes = 128 * KiB;

constinit bool is_on = false;  // set by the first operation of the process, before all others

/// Memory for a report, from the system: each reporting thread has its own, and needs no lock.
class report_text {
public:
    report_text() noexcept
        : memory_{static_cast<char*>(os::reserve(report_bytes, {}))},
          is_large_{memory_ != nullptr && os::commit(memory_, report_bytes)},
          sink_{is_large_ ? memory_ : small_.data(), is_large_ ? report_bytes : small_.size()} {}

    ~report_text() {
        if (memory_ != nullptr) {
            os::release(memory_, report_bytes);
        }
    }

    report_text(report_text const&) = delete;
    report_text& operator=(report_text const&) = delete;

    [[nodiscard]] base::text_sink& sink() noexcept { return sink_; }

private:
    std::array<char, 2 * KiB> small_;
    char* memory_;
    bool is_large_;
    base::text_sink sink_;
};

/// The text of a file of rules, as far as it has room; empty: there is no such option.
class rule_file {
public:
    explicit rule_file(control::path_text const& path) noexcept {
        if (path.empty()) {
            return;
        }
        int const fd = os::open_read(path.text.data());
        memory_ = static_cast<char*>(fd < 0 ? nullptr : os::reserve(bytes_max, {}));
        if (memory_ == nullptr || !os::commit(memory_, bytes_max)) {
            base::text_buffer<path_text_room> line;
            line << "can't read the suppressions in " << path.view();
            control::report_line(line.view());
        } else {
            std::ptrdiff_t got = 0;
            do {
                size_ += static_cast<std::size_t>(got);
                got = os::read_some(fd, memory_ + size_, bytes_max - size_);
            } while (got > 0);
            if (size_ == bytes_max) {
                control::report_line("the file of suppressions is cut at 4 MiB");
            }
        }
        if (fd >= 0) {
            os::close_file(fd);
        }
    }

    ~rule_file() {
        if (memory_ != nullptr) {
            os::release(memory_, bytes_max);
        }
    }

    rule_file(rule_file const&) = delete;
    rule_file& operator=(rule_file const&) = delete;

    [[nodiscard]] std::string_view view() const noexcept { return {memory_, size_}; }

private:
    static constexpr std::size_t bytes_max = 4 * MiB;
    static constexpr std::size_t path_text_room = control::path_text::bytes_max + 64;

    char* memory_ = nullptr;
    std::size_t size_ = 0;
};

bool wants_json() noexcept {
    return control::current_options().report_format == control::report_choice::json;
}

void handle(debug::finding const& found) noexcept {
    control::misuse_action const action = control::current_options().on_misuse;
    if (action == control::misuse_action::ignore) {
        return;
    }
    {
        report_text text;
        // What had no room is gone; the report says so.
        static_cast<void>(
            wants_json() ? debug::describe_finding_json(found, debug::process_lookup(), text.sink())
                         : debug::describe_finding(found, debug::process_lookup(), text.sink()));
        control::write_report(text.sink().view());
    }
    if (action == control::misuse_action::abort) {
        control::end_after_report();
    }
}

platform::walk_method walk_from(control::options const& from) noexcept {
    return from.stacks == control::stacks_choice::frames   ? platform::walk_method::frames
           : from.stacks == control::stacks_choice::libgcc ? platform::walk_method::libgcc
                                                           : platform::walk_method::tables;
}

debug::check_options options_from(control::options const& from) noexcept {
    debug::check_options wanted;
    bool const is_zero = from.fill == control::fill_choice::zero;
    wanted.fill_allocated = is_zero ? std::byte{0} : wanted.fill_allocated;
    wanted.fill_freed = is_zero ? std::byte{0} : wanted.fill_freed;
    wanted.fill_bytes_max = from.fill_bytes;
    wanted.quarantine_bytes = from.quarantine_bytes;
    wanted.stack_frames = from.stack_frames;
    wanted.walk = walk_from(from);
    wanted.guards.key = from.guards == control::guards_choice::keyed ? os::random_bits() | 1 : 0;
    wanted.handler = &handle;
    return wanted;
}

// The check that a signal asks for runs in the next operation of any thread: not in the handler,
// which may have interrupted one.
std::atomic<bool> check_is_wanted{false};

void want_check(int /*signal*/) noexcept { check_is_wanted.store(true, std::memory_order_relaxed); }

void* answer(heap::operation const& asked) noexcept {
    if (check_is_wanted.load(std::memory_order_relaxed) &&
        check_is_wanted.exchange(false, std::memory_order_relaxed)) [[unlikely]] {
        static_cast<void>(check_all("signal", asked.caller));
    }
    if (control::is_check_asked()) [[unlikely]] {
        control::answer_check(asked.caller);
    }
    return debug::program_stand_in().answer(asked);
}

}  // namespace

heap::stand_in const* configure() noexcept {
    control::options const& from = control::current_options();
    if (from.mode != control::mode_choice::debug) {
        debug::configure_sampled_guards({.is_on = from.sampled_guards == control::on_off::on,
                                         .interval_bytes = from.sample_interval_bytes,
                                         .handler = &handle,
                                         .walk = walk_from(from),
                                         .stack_frames = from.stack_frames});
        return nullptr;
    }
    is_on = true;
    debug::check_options const wanted = options_from(from);
    if (from.debug == control::debug_choice::pages) {
        debug::program_heap.configure(debug::with_page_defaults(wanted), debug::page_source());
    } else {
        debug::program_heap.configure(wanted);
    }
    platform::warm_up_stack_walk();
    static constinit heap::stand_in itself{};
    itself = debug::program_stand_in();
    itself.answer = &answer;
    return &itself;
}

void start() noexcept {
    if (!is_on) {
        return;
    }
    if (control::current_options().debug == control::debug_choice::pages) {
        debug::when_guards_are_refused([]() noexcept {
            control::report_line("debug=pages: no guard page to be had; some blocks do without");
        });
        if (!debug::install_fault_handler(&handle, debug::program_heap.options().walk)) {
            control::report_line("debug=pages: no handler of faults; they end the process");
        }
    }
    auto const number = static_cast<int>(control::current_options().check_signal);
    if (number != 0) {
        if (!platform::install_signal_handler(number, &want_check)) {
            control::report_line("option check_signal: the system refuses that signal");
        }
    }
}

bool end() noexcept {
    if (!is_on) {
        return false;
    }
    static_cast<void>(check_all("exit", nullptr));
    return control::current_options().leaks != control::leaks_choice::off && report_leaks() != 0 &&
           control::current_options().exit_code != 0;
}

std::size_t report_leaks() noexcept {
    if (!is_on) {
        return 0;
    }
    debug::leak_groups<os> groups;
    debug::program_heap.for_each_live([&groups](debug::block_record const& each) {
        groups.add(
            {.allocated = each.allocated, .bytes = each.bytes, .by = each.by, .owner = each.owner});
    });
    rule_file const rules_text{control::current_options().suppressions};
    report_text text;
    debug::suppressions rules;
    if (rules.read(rules_text.view(), control::current_options().suppressions.view(),
                   text.sink()) != 0) {
        control::write_report(text.sink().view());
    }
    debug::leak_totals const found = debug::report_leaks(
        groups.sorted(), groups.uncounted(), rules, debug::process_lookup(),
        {.style = wants_json() ? debug::report_style::json : debug::report_style::text,
         .write = &control::write_report},
        text.sink());
    return found.blocks;
}

bool report(heap::misuse const& event, heap::misuse_verdict& verdict) noexcept {
    if (!is_on) {
        return false;
    }
    control::misuse_action const action = control::current_options().on_misuse;
    verdict = heap::misuse_verdict::ignore;
    std::array<void const*, platform::stack_frames_max> frames;
    std::span<void const* const> const stack{
        frames.data(),
        platform::walk_stack(frames, debug::program_heap.options().walk, event.caller)};
    if (event.kind == heap::misuse_kind::foreign_pointer) {
        debug::finding found;
        found.what = debug::fault::foreign_free;
        found.operation = event.operation;
        found.ptr = event.ptr;
        found.stack = stack;
        found.thread = os::thread_id();
        handle(found);
        verdict = action == control::misuse_action::forward ? heap::misuse_verdict::forward_to_libc
                                                            : heap::misuse_verdict::ignore;
        return true;
    }
    // The rest is as the ordinary heap tells it, with where it was.
    report_text text;
    text.sink() << "  now in thread " << os::thread_id() << ":\n";
    platform::describe_stack(stack, text.sink(), 4);
    verdict = control::handle_misuse(event, text.sink().view());
    return true;
}

std::size_t check_all(char const* operation, void const* caller) noexcept {
    return is_on ? debug::program_heap.check_all(operation, caller).damaged_blocks : 0;
}

}  // namespace tarn::impl::checks
