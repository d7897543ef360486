#include "control/report.hpp"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <iterator>

#include "platform/os.hpp"
#include "heap/diversion.hpp"
#include "control/options.hpp"

namespace tarn::impl::control {

using platform::os;

namespace {

constexpr std::size_t line_bytes = 320;

}  // namespace

bool write_file(std::string_view path, std::string_view text) noexcept {
    base::text_buffer<path_text::bytes_max + 32> name;
    for (std::size_t i = 0; i < path.size(); ++i) {
        if (path[i] == '%' && i + 1 < path.size() && path[i + 1] == 'p') {
            name << os::process_id();
            ++i;
        } else {
            name << path[i];
        }
    }
    name << '\0';
    if (name.truncated()) {
        return false;
    }
    int const fd = os::open_append(name.view().data());
    if (fd < 0) {
        return false;
    }
    os::write_all(fd, text.data(), text.size());
    os::close_file(fd);
    return true;
}

void write_report(std::string_view text) noexcept {
    options const& in_effect = current_options();
    if (!in_effect.report_file.empty() && write_file(in_effect.report_file.view(), text)) {
        return;
    }
    os::write_all(static_cast<int>(in_effect.report_fd), text.data(), text.size());
}

void report_line(std::string_view text) noexcept {
    constexpr std::size_t text_bytes_max = line_bytes - std::size("tarn: ");
    base::text_buffer<line_bytes> line;
    line << "tarn: " << std::string_view{text.data(), std::min(text.size(), text_bytes_max)}
         << '\n';
    write_report(line.view());
}

void describe_misuse(heap::misuse const& event, base::text_sink& to) noexcept {
    to << "tarn: ";
    switch (event.kind) {
        case heap::misuse_kind::foreign_pointer:
            to << event.operation << " of a foreign pointer " << event.ptr;
            break;
        case heap::misuse_kind::interior_pointer:
            to << event.operation << " of an interior pointer " << event.ptr << ", "
               << static_cast<std::uint64_t>(static_cast<char const*>(event.ptr) -
                                             static_cast<char const*>(event.block))
               << " bytes into the " << event.block_bytes << "-byte block " << event.block;
            break;
        case heap::misuse_kind::double_free:
            to << "double free of " << event.ptr << ", a " << event.block_bytes << "-byte block";
            break;
        case heap::misuse_kind::freed_block:
            to << event.operation << " of a freed block " << event.ptr << " of "
               << event.block_bytes << " bytes";
            break;
        case heap::misuse_kind::overflow:
            to << "heap-buffer-overflow: byte " << std::uint64_t{event.count} << " of the "
               << event.block_bytes << "-byte block " << event.block
               << " was overwritten, found by " << event.operation;
            break;
        case heap::misuse_kind::corruption:
            to << "heap corruption: ";
            if (event.block != nullptr) {
                to << "the freed block " << event.block << " of " << event.block_bytes
                   << " bytes was overwritten";
            } else {
                to << "a freed block of " << event.block_bytes
                   << " bytes was overwritten: it led to " << event.ptr;
            }
            break;
        case heap::misuse_kind::size_overflow:
            to << "size overflow: ";
            if (event.count != 1) {
                to << event.count << " * ";
            }
            to << event.element_bytes << " bytes asked of " << event.operation;
            break;
        case heap::misuse_kind::reentry:
            to << event.operation
               << " entered inside an allocation, from a signal handler or a wrapped system call";
            break;
        case heap::misuse_kind::other_heap:
            to << event.operation << " of " << event.ptr << ", a " << event.block_bytes
               << "-byte block of another heap";
            break;
        case heap::misuse_kind::no_heap:
            to << event.operation
               << " in a heap that does not exist: " << std::uint64_t{event.count};
            break;
        case heap::misuse_kind::told:
            to << event.operation;
            break;
    }
    if (event.caller != nullptr) {
        to << "; caller " << event.caller;
    }
    to << '\n';
}

void end_after_report() noexcept {
    if (std::uint64_t const code = current_options().exit_code; code != 0) {
        std::_Exit(static_cast<int>(code));
    }
    // A handler of the program's may allocate, and what it frees may be reported, too.
    static std::atomic<std::uint32_t> aborting{0};
    if (aborting.exchange(os::thread_id(), std::memory_order_relaxed) == os::thread_id()) {
        std::signal(SIGABRT, SIG_DFL);
    }
    heap::program_runs const scope;
    std::abort();
}

heap::misuse_verdict handle_misuse(heap::misuse const& event, std::string_view details) noexcept {
    misuse_action const action = current_options().on_misuse;
    if (action != misuse_action::ignore || event.kind == heap::misuse_kind::reentry) {
        base::text_buffer<line_bytes> line;
        describe_misuse(event, line);
        write_report(line.view());
        if (!details.empty()) {
            write_report(details);
        }
    }
    // A size overflow is refused, as the standard demands, and not fatal. A re-entry can't go on:
    // the heap's lists are half changed.
    bool const is_fatal =
        event.kind == heap::misuse_kind::reentry ||
        (action == misuse_action::abort && event.kind != heap::misuse_kind::size_overflow);
    if (is_fatal) {
        if (event.kind == heap::misuse_kind::reentry) {
            std::signal(SIGABRT, SIG_DFL);  // a handler that allocates would come here for ever
        }
        end_after_report();
    }
    return action == misuse_action::forward && event.kind == heap::misuse_kind::foreign_pointer
               ? heap::misuse_verdict::forward_to_libc
               : heap::misuse_verdict::ignore;
}

}  // namespace tarn::impl::control
