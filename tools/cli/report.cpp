#include "report.hpp"

#include <fmt/core.h>
#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <string_view>

namespace tarn::cli {

namespace {

constexpr std::size_t classes_shown = 12;

/// Collects the lines of the report.
class page {
public:
    template <class... Values>
    void line(fmt::format_string<Values...> format, Values&&... values) {
        fmt::format_to(std::back_inserter(text_), format, std::forward<Values>(values)...);
        text_ += '\n';
    }

    /// A label, a quantity, and what to know about it.
    void fact(std::string_view label, std::string const& quantity, std::string const& note = {}) {
        line("  {:<20}{:>12}{}{}", label, quantity, note.empty() ? "" : "   ", note);
    }

    void gap() { text_ += '\n'; }

    [[nodiscard]] std::string text() && { return std::move(text_); }

private:
    std::string text_;
};

std::string describe_end(int status) {
    if (WIFEXITED(status)) {
        return fmt::format("exit status {}", WEXITSTATUS(status));
    }
    int const signal = WTERMSIG(status);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): tarn has one thread
    return fmt::format("killed by signal {} ({})", signal, ::strsignal(signal));
}

std::string plural(std::uint64_t count, std::string_view one, std::string_view many) {
    return fmt::format("{} {}", format_count(count), count == 1 ? one : many);
}

void add_classes(page& out, process_stats const& stats) {
    if (stats.classes.empty()) {
        return;
    }
    out.gap();
    out.line("  busiest size classes");
    out.line("  {:>12}{:>18}{:>18}", "block", "allocations", "live at the end");
    std::size_t const shown = std::min(classes_shown, stats.classes.size());
    for (std::size_t i = 0; i < shown; ++i) {
        class_stats const& each = stats.classes[i];
        out.line(
            "  {:>12}{:>18}{:>18}",
            each.block_bytes == 0 ? std::string{"large"} : format_count(each.block_bytes) + " B",
            format_count(each.allocations), format_count(each.live_blocks));
    }
}

void add_process(page& out, process_stats const& stats) {
    out.line("  {:<20}{:>12}{:>12}", "", "peak", "at the end");
    out.line("  {:<20}{:>12}{:>12}", "resident memory", format_bytes(stats.resident_peak_bytes),
             format_bytes(stats.resident_bytes));
    out.line("  {:<20}{:>12}{:>12}   in {}", "live", format_bytes(stats.live_peak_bytes),
             format_bytes(stats.live_bytes), plural(stats.live_blocks, "block", "blocks"));
    out.gap();
    out.fact("mapped", format_bytes(stats.mapped_bytes),
             fmt::format("of {} reserved; {} for Tarn's own records",
                         format_bytes(stats.reserved_bytes), format_bytes(stats.metadata_bytes)));
    if (stats.guard_bytes != 0) {
        out.fact("in quarantine", format_bytes(stats.quarantined_bytes),
                 fmt::format("freed, kept from reuse; {} in guards around blocks",
                             format_bytes(stats.guard_bytes)));
    }
    out.fact("held by threads", format_bytes(stats.held_by_threads_bytes),
             fmt::format("free blocks in pages of {}", plural(stats.threads, "thread", "threads")));
    out.fact("free in bins", format_bytes(stats.free_in_bins_bytes),
             "free blocks in pages that any thread may take");
    out.fact("free runs", format_bytes(stats.free_runs_bytes), "not yet given back to the system");
    out.fact("purged", format_bytes(stats.purged_bytes), "given back to the system, in total");
    out.fact("pages", format_count(stats.pages), "in use, large blocks among them");
    out.fact("cross-thread frees", format_count(stats.cross_thread_frees));
    out.fact("page faults", format_count(stats.page_faults));
    add_classes(out, stats);
    out.gap();
}

void add_absence(page& out, ended_child const& child) {
    if (WIFSIGNALED(child.status)) {
        out.line("  The program did not report: it was killed.");
    } else {
        out.line("  The program did not report. It may have left through _exit, be statically");
        out.line("  linked or set-user-id, have changed its user, or have closed its files.");
    }
    out.gap();
}

double seconds(timeval const& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

void add_usage(page& out, ended_child const& child) {
    rusage const& usage = child.usage;
    out.line("  whole run, child processes included");
    out.fact("peak resident", format_bytes(static_cast<std::uint64_t>(usage.ru_maxrss) * 1024),
             "of the largest process");
    out.fact("page faults",
             format_count(static_cast<std::uint64_t>(usage.ru_minflt + usage.ru_majflt)),
             fmt::format("{} from disk", usage.ru_majflt));
    out.fact("time", fmt::format("{:.2f} s", static_cast<double>(child.wall.count()) * 1e-3),
             fmt::format("{:.2f} s user, {:.2f} s system", seconds(usage.ru_utime),
                         seconds(usage.ru_stime)));
}

void add_others(page& out, std::vector<process_stats const*> const& others) {
    if (others.empty()) {
        return;
    }
    process_stats sum;
    for (process_stats const* const each : others) {
        sum.live_peak_bytes += each->live_peak_bytes;
        sum.resident_peak_bytes += each->resident_peak_bytes;
        sum.cross_thread_frees += each->cross_thread_frees;
    }
    out.line("  {} reported; summed up: live peak {}, resident peak {}, cross-thread frees {}",
             plural(others.size(), "further process", "further processes"),
             format_bytes(sum.live_peak_bytes), format_bytes(sum.resident_peak_bytes),
             format_count(sum.cross_thread_frees));
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
    static constexpr std::array<std::string_view, 3> units{"KiB", "MiB", "GiB"};
    if (bytes < 1024) {
        return fmt::format("{} B", bytes);
    }
    std::size_t unit = 0;
    while (unit + 1 < units.size() && bytes >> (10 * (unit + 2)) != 0) {
        ++unit;
    }
    unsigned const shift = 10 * (static_cast<unsigned>(unit) + 1);
    std::uint64_t const rest = bytes & ((std::uint64_t{1} << shift) - 1);
    return fmt::format("{}.{} {}", bytes >> shift, rest * 10 >> shift, units[unit]);
}

std::string format_count(std::uint64_t count) {
    std::string text = fmt::format("{}", count);
    for (std::size_t at = text.size(); at > 3;) {
        at -= 3;
        text.insert(at, 1, ',');
    }
    return text;
}

std::string format_report(run_outcome const& outcome) {
    page out;
    process_stats const* main = nullptr;
    std::vector<process_stats const*> others;
    for (parsed_stats_file const& file : outcome.files) {
        for (process_stats const& each : file.reports) {
            bool const is_program = each.pid == static_cast<std::uint64_t>(outcome.child.pid);
            if (is_program && main != nullptr) {
                others.push_back(main);  // the id was used twice
            }
            if (is_program) {
                main = &each;
            } else {
                others.push_back(&each);
            }
        }
    }
    out.gap();
    out.line("Memory on Tarn: {} (process {}), {}", outcome.program, outcome.child.pid,
             describe_end(outcome.child.status));
    out.gap();
    if (main != nullptr) {
        add_process(out, *main);
    } else {
        add_absence(out, outcome.child);
    }
    add_usage(out, outcome.child);
    add_others(out, others);
    for (parsed_stats_file const& file : outcome.files) {
        if (!file.error.empty()) {
            out.line("  Malformed statistics in {}", file.error);
        }
    }
    return std::move(out).text();
}

}  // namespace tarn::cli
