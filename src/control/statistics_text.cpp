#include "control/statistics_text.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "control/owners.hpp"
#include "control/statistics.hpp"

namespace tarn::impl::control {

namespace {

enum class metric : std::uint8_t { gauge, counter };

struct field {
    std::string_view name;
    metric type;
    std::uint64_t tarn_stats::*value;
    std::string_view help;
};

// Every number of tarn_stats but size and version, in its order.
constexpr std::array fields{
    field{"live_bytes", metric::gauge, &tarn_stats::live_bytes,
          "In blocks handed to the program, by block size."},
    field{"live_peak_bytes", metric::gauge, &tarn_stats::live_peak_bytes,
          "Highest live bytes that were met."},
    field{"live_blocks", metric::gauge, &tarn_stats::live_blocks, "Blocks handed to the program."},
    field{"requested_bytes", metric::gauge, &tarn_stats::requested_bytes,
          "Of live bytes: what the program asked for, estimated from samples."},
    field{"requested_error_bytes", metric::gauge, &tarn_stats::requested_error_bytes,
          "Standard error of the requested bytes."},
    field{"sampled_blocks", metric::gauge, &tarn_stats::sampled_blocks,
          "Live blocks that are samples."},
    field{"allocations", metric::counter, &tarn_stats::allocations, "Blocks ever handed out."},
    field{"cross_thread_frees", metric::counter, &tarn_stats::cross_thread_frees,
          "Frees of blocks whose page another thread owned."},
    field{"mapped_bytes", metric::gauge, &tarn_stats::mapped_bytes,
          "From the system and not given back."},
    field{"reserved_bytes", metric::gauge, &tarn_stats::reserved_bytes, "Address space reserved."},
    field{"metadata_bytes", metric::gauge, &tarn_stats::metadata_bytes,
          "Mapped for the allocator's own records."},
    field{"resident_bytes", metric::gauge, &tarn_stats::resident_bytes,
          "Resident memory of the whole process."},
    field{"resident_peak_bytes", metric::gauge, &tarn_stats::resident_peak_bytes,
          "Highest resident memory of the whole process."},
    field{"page_faults", metric::counter, &tarn_stats::page_faults,
          "Page faults of the whole process."},
    field{"page_tail_bytes", metric::gauge, &tarn_stats::page_tail_bytes,
          "Ends of pages and large blocks where no block fits."},
    field{"fresh_bytes", metric::gauge, &tarn_stats::fresh_bytes,
          "In pages, never handed out yet."},
    field{"held_by_threads_bytes", metric::gauge, &tarn_stats::held_by_threads_bytes,
          "Free blocks in pages that threads own."},
    field{"cached_page_bytes", metric::gauge, &tarn_stats::cached_page_bytes,
          "Of those, in pages without any block in use."},
    field{"free_in_bins_bytes", metric::gauge, &tarn_stats::free_in_bins_bytes,
          "Free blocks in pages that any thread may take."},
    field{"free_in_heaps_bytes", metric::gauge, &tarn_stats::free_in_heaps_bytes,
          "Free blocks in pages of heaps that the program made."},
    field{"free_runs_bytes", metric::gauge, &tarn_stats::free_runs_bytes,
          "Free runs that still hold memory."},
    field{"free_runs", metric::gauge, &tarn_stats::free_runs, "Number of free runs."},
    field{"purged_inside_bytes", metric::gauge, &tarn_stats::purged_inside_bytes,
          "Given back to the system inside pages in use."},
    field{"purged_bytes", metric::counter, &tarn_stats::purged_bytes,
          "Ever given back to the system."},
    field{"huge_bytes", metric::gauge, &tarn_stats::huge_bytes,
          "In blocks with mappings of their own."},
    field{"huge_blocks", metric::gauge, &tarn_stats::huge_blocks,
          "Blocks with mappings of their own."},
    field{"huge_peak_bytes", metric::gauge, &tarn_stats::huge_peak_bytes,
          "Highest bytes in such blocks."},
    field{"huge_blocks_peak", metric::gauge, &tarn_stats::huge_blocks_peak,
          "Highest number of such blocks."},
    field{"arenas_peak_bytes", metric::gauge, &tarn_stats::arenas_peak_bytes,
          "Highest bytes in all other blocks and free runs."},
    field{"soft_limit_bytes", metric::gauge, &tarn_stats::soft_limit_bytes,
          "Above it memory is given back and listeners are told; 0: none."},
    field{"hard_limit_bytes", metric::gauge, &tarn_stats::hard_limit_bytes,
          "Above it allocations fail; 0: none."},
    field{"limit_refusals", metric::counter, &tarn_stats::limit_refusals,
          "Requests to the system that the hard limit stopped."},
    field{"threads", metric::gauge, &tarn_stats::threads, "Threads with a heap of their own."},
    field{"threads_unread", metric::gauge, &tarn_stats::threads_unread,
          "Threads whose free lists count as live."},
    field{"pages", metric::gauge, &tarn_stats::pages, "Pages and large blocks in use."},
    field{"quarantined_blocks", metric::gauge, &tarn_stats::quarantined_blocks,
          "Freed blocks that mode debug keeps from reuse."},
    field{"quarantined_bytes", metric::gauge, &tarn_stats::quarantined_bytes,
          "Bytes of those, as they were asked for."},
    field{"guard_bytes", metric::gauge, &tarn_stats::guard_bytes,
          "Around blocks of mode debug: guards and rounding."},
    field{"guarded_blocks", metric::gauge, &tarn_stats::guarded_blocks,
          "Live samples between inaccessible pages."},
    field{"guarded_so_far", metric::counter, &tarn_stats::guarded_so_far,
          "Samples between inaccessible pages, ever."},
    field{"guards_refused", metric::counter, &tarn_stats::guards_refused,
          "Samples that the system had no such pages for; then guards are off."}};

struct class_field {
    std::string_view name;
    metric type;
    std::uint64_t tarn_class_stats::*value;
    std::string_view help;
};

constexpr std::array class_fields{
    class_field{"allocations", metric::counter, &tarn_class_stats::allocations,
                "Blocks of a size class ever handed out."},
    class_field{"live_blocks", metric::gauge, &tarn_class_stats::live_blocks,
                "Blocks of a size class handed to the program."},
    class_field{"live_bytes", metric::gauge, &tarn_class_stats::live_bytes,
                "Bytes of a size class handed to the program."},
    class_field{"free_blocks", metric::gauge, &tarn_class_stats::free_blocks,
                "Free blocks of a size class."},
    class_field{"pages", metric::gauge, &tarn_class_stats::pages, "Pages of a size class."},
    class_field{"page_bytes", metric::gauge, &tarn_class_stats::page_bytes,
                "Bytes of the pages of a size class."},
    class_field{"requested_bytes", metric::gauge, &tarn_class_stats::requested_bytes,
                "Bytes asked for of a size class, estimated."},
    class_field{"requested_error_bytes", metric::gauge, &tarn_class_stats::requested_error_bytes,
                "Standard error of those."},
    class_field{"sampled_blocks", metric::gauge, &tarn_class_stats::sampled_blocks,
                "Live blocks of a size class that are samples."}};

struct thread_field {
    std::string_view name;
    std::uint64_t tarn_thread_stats::*value;
};

constexpr std::array thread_fields{
    thread_field{"allocations", &tarn_thread_stats::allocations},
    thread_field{"cross_thread_frees", &tarn_thread_stats::cross_thread_frees},
    thread_field{"pages", &tarn_thread_stats::pages},
    thread_field{"page_bytes", &tarn_thread_stats::page_bytes},
    thread_field{"free_bytes", &tarn_thread_stats::free_bytes}};

std::span<tarn_class_stats const> classes_of(tarn_stats const& of) noexcept {
    return {of.by_class, of.by_class == nullptr ? 0 : of.class_count};
}

std::span<tarn_thread_stats const> threads_of(tarn_stats const& of) noexcept {
    return {of.by_thread, of.by_thread == nullptr ? 0 : of.thread_count};
}

std::span<tarn_owner_stats const> owners_of(tarn_stats const& of) noexcept {
    constexpr std::size_t needed = offsetof(tarn_stats, owner_count) + sizeof of.owner_count;
    if (of.size != 0 && of.size < needed) {
        return {};  // of a program that knows nothing of them
    }
    return {of.by_owner, of.by_owner == nullptr ? 0 : of.owner_count};
}

constexpr std::size_t owners_shown = 16;
constexpr std::size_t busiest_shown = 12;

/// Up to so many classes by number of allocations, the busiest first; unused ones left out.
std::size_t busiest(std::span<tarn_class_stats const> classes,
                    std::array<tarn_class_stats const*, busiest_shown>& order) noexcept {
    std::size_t count = 0;
    for (tarn_class_stats const& each : classes) {
        if (each.allocations == 0) {
            continue;
        }
        std::size_t place = count;
        while (place > 0 && order[place - 1]->allocations < each.allocations) {
            --place;
        }
        if (place == busiest_shown) {
            continue;
        }
        count = std::min(count + 1, busiest_shown);
        std::move_backward(order.begin() + place, order.begin() + count - 1, order.begin() + count);
        order[place] = &each;
    }
    return count;
}

void describe_owners(std::span<tarn_owner_stats const> owners, base::text_sink& to) noexcept {
    if (owners.empty()) {
        return;
    }
    to << "owners                              number        held        live\n";
    for (tarn_owner_stats const& each : owners.first(std::min(owners.size(), owners_shown))) {
        base::text_buffer<sizeof each.kind + sizeof each.name + 3> title;
        title << "  " << each.kind << (each.name[0] == '\0' ? "" : " ") << each.name;
        to.padded(title.view(), 32).padded(each.owners, 10).bytes(each.held_bytes, 12);
        to.bytes(each.live_bytes, 12) << '\n';
    }
}

void describe_as_report(tarn_stats const& of, base::text_sink& to) noexcept {
    constexpr std::size_t width = 12;
    to << "tarn " << tarn_version() << " memory report, process " << of.process_id << '\n';
    auto const line = [&to](std::string_view name, std::uint64_t bytes) {
        to.padded(name, 26).bytes(bytes, width) << '\n';
    };
    auto const count = [&to](std::string_view name, std::uint64_t number) {
        to.padded(name, 26).padded(number, width) << '\n';
    };
    line("resident, peak", of.resident_peak_bytes);
    line("resident, now", of.resident_bytes);
    line("live in blocks", of.live_bytes);
    to.padded("  asked for", 26).bytes(of.requested_bytes, width) << " +- ";
    to.bytes(of.requested_error_bytes, 0) << '\n';
    line("live in blocks, peak", of.live_peak_bytes);
    if (of.quarantined_blocks != 0 || of.guard_bytes != 0) {
        line("freed, in quarantine", of.quarantined_bytes);
        line("guards around blocks", of.guard_bytes);
    }
    line("mapped", of.mapped_bytes);
    line("free, held by threads", of.held_by_threads_bytes);
    line("free, in shared pages", of.free_in_bins_bytes);
    line("free, in heaps of the program", of.free_in_heaps_bytes);
    line("free, in runs", of.free_runs_bytes);
    line("in pages, not used yet", of.fresh_bytes);
    line("ends of pages", of.page_tail_bytes);
    line("metadata", of.metadata_bytes);
    line("purged inside pages", of.purged_inside_bytes);
    line("purged in total", of.purged_bytes);
    count("live blocks", of.live_blocks);
    count("threads", of.threads);
    count("cross-thread frees", of.cross_thread_frees);
    count("page faults", of.page_faults);
    std::array<tarn_class_stats const*, busiest_shown> order{};
    std::size_t const shown = busiest(classes_of(of), order);
    if (shown != 0) {
        to << "busiest sizes   allocations   live blocks    live\n";
    }
    for (std::size_t i = 0; i < shown; ++i) {
        tarn_class_stats const& each = *order[i];
        if (each.block_bytes == 0) {
            to.padded("  > 128 KiB", 12);
        } else {
            to.bytes(each.block_bytes, width);
        }
        to.padded(each.allocations, 15).padded(each.live_blocks, 14).bytes(each.live_bytes, 12)
            << '\n';
    }
    describe_owners(owners_of(of), to);
}

/// A string of JSON: RFC 8259, section 7.
void quote(char const* text, base::text_sink& to) noexcept {
    constexpr std::string_view digits = "0123456789abcdef";
    to << '"';
    for (; *text != '\0'; ++text) {
        auto const code = static_cast<unsigned char>(*text);
        if (code < 0x20) {
            to << "\\u00" << digits[code >> 4] << digits[code & 15];
            continue;
        }
        if (*text == '"' || *text == '\\') {
            to << '\\';
        }
        to << *text;
    }
    to << '"';
}

void describe_as_keys(tarn_stats const& of, base::text_sink& to) noexcept {
    to << "tarn " << tarn_version() << " pid " << of.process_id << '\n';
    for (field const& each : fields) {
        to << each.name << ' ' << of.*each.value << '\n';
    }
    std::array<tarn_class_stats const*, busiest_shown> order{};
    std::size_t const shown = busiest(classes_of(of), order);
    for (std::size_t i = 0; i < shown; ++i) {
        to << "class " << order[i]->block_bytes << ' ' << order[i]->allocations << ' '
           << order[i]->live_blocks << '\n';
    }
}

void describe_as_line(tarn_stats const& of, base::text_sink& to) noexcept {
    to << "tarn pid=" << of.process_id;
    for (field const& each : fields) {
        to << ' ' << each.name << '=' << of.*each.value;
    }
    to << '\n';
}

void describe_as_json(tarn_stats const& of, base::text_sink& to) noexcept {
    to << "{\"tarn\":\"" << tarn_version() << "\",\"version\":" << of.version
       << ",\"process_id\":" << of.process_id;
    auto const member = [&to](std::string_view name, std::uint64_t value) {
        to << ",\"" << name << "\":" << value;
    };
    for (field const& each : fields) {
        member(each.name, of.*each.value);
    }
    to << ",\"by_class\":[";
    char const* comma = "";
    for (tarn_class_stats const& row : classes_of(of)) {
        to << comma << "{\"block_bytes\":" << row.block_bytes;
        for (class_field const& each : class_fields) {
            member(each.name, row.*each.value);
        }
        to << '}';
        comma = ",";
    }
    to << "],\"by_thread\":[";
    comma = "";
    for (tarn_thread_stats const& row : threads_of(of)) {
        to << comma << "{\"thread_id\":" << row.thread_id;
        for (thread_field const& each : thread_fields) {
            member(each.name, row.*each.value);
        }
        to << '}';
        comma = ",";
    }
    to << "],\"by_owner\":[";
    comma = "";
    for (tarn_owner_stats const& row : owners_of(of)) {
        to << comma << "{\"kind\":";
        quote(row.kind, to);
        to << ",\"name\":";
        quote(row.name, to);
        member("owners", row.owners);
        member("held_bytes", row.held_bytes);
        member("live_bytes", row.live_bytes);
        to << '}';
        comma = ",";
    }
    to << "]}\n";
}

/// "# HELP ..." and "# TYPE ..." of a metric tarn_<prefix><name>.
void head_of_metric(std::string_view prefix, std::string_view name, metric type,
                    std::string_view help, base::text_sink& to) noexcept {
    std::string_view const suffix = type == metric::counter ? "_total" : "";
    to << "# HELP tarn_" << prefix << name << suffix << ' ' << help << '\n';
    to << "# TYPE tarn_" << prefix << name << suffix
       << (type == metric::counter ? " counter\n" : " gauge\n");
}

// Threads come and go, and a label for each would make a time series for each: they are left out.
void describe_as_prometheus(tarn_stats const& of, base::text_sink& to) noexcept {
    for (field const& each : fields) {
        head_of_metric("", each.name, each.type, each.help, to);
        to << "tarn_" << each.name << (each.type == metric::counter ? "_total " : " ")
           << of.*each.value << '\n';
    }
    for (class_field const& each : class_fields) {
        if (classes_of(of).empty()) {
            return;
        }
        head_of_metric("class_", each.name, each.type, each.help, to);
        for (tarn_class_stats const& row : classes_of(of)) {
            to << "tarn_class_" << each.name << (each.type == metric::counter ? "_total" : "")
               << "{block_bytes=\"";
            if (row.block_bytes == 0) {
                to << "large";
            } else {
                to << row.block_bytes;
            }
            to << "\"} " << row.*each.value << '\n';
        }
    }
}

}  // namespace

void describe_statistics(tarn_stats const& of, int as, base::text_sink& to) noexcept {
    switch (as) {
        case TARN_STATS_REPORT:
            return describe_as_report(of, to);
        case TARN_STATS_LINE:
            return describe_as_line(of, to);
        case TARN_STATS_JSON:
            return describe_as_json(of, to);
        case TARN_STATS_PROMETHEUS:
            return describe_as_prometheus(of, to);
        case TARN_STATS_KEYS:
            return describe_as_keys(of, to);
        default:
            return;
    }
}

void describe_report_now(base::text_sink& to) noexcept {
    statistics now = collect_statistics();
    add_process_figures(now);
    std::array<tarn_owner_stats, owners_shown> owners;
    now.by_owner = owners.data();
    now.owner_count = list_owners(owners);
    describe_statistics(now.with_classes(), TARN_STATS_REPORT, to);
}

}  // namespace tarn::impl::control
