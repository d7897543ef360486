// control/options.hpp - the option table: one row per option, from which come the struct, the
// parser, the printed list and the tests.
//
// Threads    load_options() once, by the first thread that allocates; afterwards read-only
// Always     works before libc is ready: reads the environment the kernel passed, allocates
//            nothing. A process with raised rights (set-user-id) ignores the environment.
// Errors     an unknown key is reported with the nearest known one, a bad value with what is
//            allowed; the default stays. Both are lines on the report channel, never fatal.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/text.hpp"
#include "base/units.hpp"

namespace tarn::impl::control {

enum class misuse_action : std::uint8_t {
    abort,   // report, then abort
    warn,    // report, then go on; the operation is not done
    ignore,  // go on in silence
    forward  // as warn, but a free of a foreign pointer goes to libc's own free
};

enum class scavenger_choice : std::uint8_t {
    automatic,  // once the program has a second thread
    on,
    off
};

enum class on_off : std::uint8_t { on, off };

enum class valgrind_choice : std::uint8_t { aside, stay };

enum class pools_choice : std::uint8_t { own, plain };

enum class mode_choice : std::uint8_t { fast, hardened, debug };

// What mode debug does; see debug/checked_heap.hpp.
enum class debug_choice : std::uint8_t { blocks, pages };
enum class guards_choice : std::uint8_t { plain, keyed };
enum class fill_choice : std::uint8_t { junk, zero };
enum class stacks_choice : std::uint8_t { tables, frames, libgcc };
enum class leaks_choice : std::uint8_t { off, all };
enum class report_choice : std::uint8_t { text, json };

/// A path with room for itself, since the environment may change later. `%p`: the process id.
struct path_text {
    static constexpr std::size_t bytes_max = 512;
    std::array<char, bytes_max> text{};  // terminated; empty: not set

    [[nodiscard]] bool empty() const noexcept { return text[0] == '\0'; }

    [[nodiscard]] std::string_view view() const noexcept { return {text.data()}; }
};

// name, type, default, least, largest, what it does
#define TARN_NUMBER_OPTIONS(X)                                                                   \
    X(purge_delay_ms, 1000, 0, 60'000, "age in ms at which free memory goes back to the system") \
    X(thread_cache_bytes, 4 * MiB, 0, 1 * GiB,                                                   \
      "bytes of partly free pages a thread keeps from others, once there are others")            \
    X(thread_empty_bytes, 1 * MiB, 0, 1 * GiB, "bytes of empty pages a thread keeps")            \
    X(arena_bytes, 1 * GiB, 4 * MiB, 4 * GiB, "address space reserved at a time")                \
    X(huge_after_bytes, 32 * MiB, 0, std::uint64_t{1} << 47,                                     \
      "heap size from which new memory for small blocks comes in huge pages; 0: never")          \
    X(soft_limit_bytes, 0, 0, std::uint64_t{1} << 62,                                            \
      "memory for blocks above which free memory goes back at once; 0: no limit")                \
    X(hard_limit_bytes, 0, 0, std::uint64_t{1} << 62,                                            \
      "memory for blocks above which allocations fail; 0: no limit")                             \
    X(sample_interval_bytes, 4 * MiB, 0, std::uint64_t{1} << 40,                                 \
      "bytes of blocks (256 of each at most) between two that are sampled; 0: none is")          \
    X(quarantine_bytes, 64 * MiB, 0, std::uint64_t{1} << 40,                                     \
      "debug: bytes of freed blocks kept from reuse; half of what is live and 1M at most")       \
    X(stack_frames, 16, 0, 64, "debug: calls noted of each allocation and free")                 \
    X(fill_bytes, 64 * KiB, 0, std::uint64_t{1} << 40,                                           \
      "debug: bytes of a block filled when it comes and when it goes, at most")                  \
    X(check_signal, 0, 0, 64, "debug: signal that asks for a check of all blocks; 0: none does") \
    X(exit_code, 0, 0, 255, "status after a report that ends the process; 0: it aborts")         \
    X(report_fd, 2, 0, 1'000'000, "file descriptor of reports")                                  \
    X(stats, 0, 0, 1, "1: print statistics to the report channel at exit")                       \
    X(verbose, 0, 0, 1, "1: print the options in effect at start")

#define TARN_PATH_OPTIONS(X)                                                         \
    X(report_file, "file that reports are appended to, instead of report_fd")        \
    X(suppressions, "debug: file of rules for unfreed blocks that are not reported") \
    X(stats_file, "file that statistics are written to at exit, as key-value lines")

// name, type, default, names in the order of the type's values, what it does
#define TARN_CHOICE_OPTIONS(X)                                                                     \
    X(mode, mode_choice, fast, "fast|hardened|debug",                                              \
      "hardened: stop attacks; debug: find misuse of memory; also TARN_MODE=debug")                \
    X(zero_on_free, on_off, off, "on|off", "hardened: clear blocks when they are freed")           \
    X(debug, debug_choice, blocks, "blocks|pages",                                                 \
      "debug: what guards a block; pages: an inaccessible page behind each")                       \
    X(guards, guards_choice, plain, "plain|keyed",                                                 \
      "debug: guard bytes, all 0xAB, or others for each block")                                    \
    X(fill, fill_choice, junk, "junk|zero", "debug: fill with 0xA1 and, freed, 0xF4, or zero")     \
    X(stacks, stacks_choice, tables, "tables|frames|libgcc",                                       \
      "debug: how calls are found; frames: by frame pointers alone")                               \
    X(leaks, leaks_choice, off, "off|all", "debug: report unfreed blocks at exit")                 \
    X(report_format, report_choice, text, "text|json", "of what mode debug reports")               \
    X(on_misuse, misuse_action, abort, "abort|warn|ignore|forward", "after a misuse report")       \
    X(scavenger, scavenger_choice, automatic, "auto|on|off",                                       \
      "a thread that gives memory back while the program idles; auto: once it has a second one")   \
    X(cgroup, on_off, on, "on|off", "heed the limits on memory and processor time of the cgroup")  \
    X(live_stats, on_off, on, "on|off", "show statistics to `tarn stat` while the program runs")   \
    X(sampled_guards, on_off, on, "on|off",                                                        \
      "not debug: most samples lie before an inaccessible page, so that bugs with them are found") \
    X(pools, pools_choice, own, "own|plain",                                                       \
      "plain: pools take each block from malloc, for tools that watch it")                         \
    X(valgrind, valgrind_choice, aside, "aside|stay",                                              \
      "stay: Tarn answers under Valgrind, too, for tools that count")

struct options {
#define TARN_FIELD(name, value, least, largest, help) std::uint64_t name = value;
    TARN_NUMBER_OPTIONS(TARN_FIELD)
#undef TARN_FIELD
#define TARN_FIELD(name, help) path_text name;
    TARN_PATH_OPTIONS(TARN_FIELD)
#undef TARN_FIELD
#define TARN_FIELD(name, type, value, names, help) type name = type::value;
    TARN_CHOICE_OPTIONS(TARN_FIELD)
#undef TARN_FIELD
};

/// The options in effect.
[[nodiscard]] options const& current_options() noexcept;

/// Reads TARN_OPTIONS and TARN_MODE.
void load_options() noexcept;

/// Applies "key=value,key=value" to `target`; complaints go to `complaints`, a line each.
void parse_options(std::string_view text, options& target, base::text_sink& complaints) noexcept;

/// A line per option: key, value in effect, what it does.
void describe_options(options const& of, base::text_sink& to) noexcept;

}  // namespace tarn::impl::control
