#include "debug/suppressions.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bits.hpp"
#include "platform/os.hpp"
#include "debug/names.hpp"

namespace tarn::impl::debug {

using platform::os;
using platform::source_frame;

namespace {

constexpr std::uint8_t all_kinds = (1U << reachability_count) - 1;

constexpr std::uint64_t matched_bit = std::uint64_t{1} << 63;

constexpr std::size_t frames_max = 48;  // of a rule; Valgrind takes 24

// What rules and names show of themselves in messages.
constexpr std::size_t shown_bytes_max = 200;

constexpr std::string_view any_frames = "...";

// --- patterns ------------------------------------------------------------------------------------

enum class side : std::uint8_t { open, closed };

struct wildcards {
    side start;
    side end;
    bool has_question;
};

bool matches(std::string_view pattern, std::string_view text, wildcards with) noexcept {
    std::size_t at = 0;
    std::size_t seen = 0;
    bool can_retry = with.start == side::open;  // as if a star came first
    std::size_t after_star = 0;
    std::size_t star_seen = 0;
    // Each round takes a character of one of the two, or lets the latest star take one more.
    for (;;) {
        if (at == pattern.size()) {
            if (with.end == side::open || seen == text.size()) {
                return true;
            }
        } else if (pattern[at] == '*') {
            after_star = ++at;
            star_seen = seen;
            can_retry = true;
            continue;
        } else if (seen < text.size() &&
                   (pattern[at] == text[seen] || (with.has_question && pattern[at] == '?'))) {
            ++at;
            ++seen;
            continue;
        }
        if (!can_retry || star_seen == text.size()) {
            return false;
        }
        at = after_star;
        seen = ++star_seen;
    }
}

std::string_view without_folder(std::string_view file) noexcept {
    std::size_t const slash = file.rfind('/');
    if (slash != std::string_view::npos) {
        file.remove_prefix(slash + 1);
    }
    return file;
}

/// "f" of "f(int) const"; all of it where no arguments are.
std::string_view without_arguments(std::string_view function) noexcept {
    std::size_t const last = function.rfind(')');
    if (last == std::string_view::npos ||
        (last + 1 < function.size() && function[last + 1] != ' ' && function[last + 1] != '[')) {
        return function;
    }
    std::size_t depth = 0;
    for (std::size_t at = last + 1; at-- != 0;) {
        depth += function[at] == ')' ? 1U : 0U;
        depth -= function[at] == '(' ? 1U : 0U;
        if (depth == 0) {
            return at == 0 ? function : std::string_view{function.data(), at};
        }
    }
    return function;
}

bool matches_function(std::string_view pattern, std::string_view function) noexcept {
    return matches_whole(pattern, function) || matches_whole(pattern, without_arguments(function));
}

bool matches_file(std::string_view pattern, std::string_view file) noexcept {
    return matches_whole(pattern, file) || matches_whole(pattern, without_folder(file));
}

bool matches_source(std::string_view pattern, std::string_view file, unsigned line) noexcept {
    if (matches_file(pattern, file)) {
        return true;
    }
    std::size_t const colon = pattern.rfind(':');
    if (colon == std::string_view::npos) {
        return false;
    }
    base::text_buffer<24> number;
    number << std::uint32_t{line};
    std::string_view wanted = pattern;
    wanted.remove_prefix(colon + 1);
    return matches_whole(wanted, number.view()) && matches_file({pattern.data(), colon}, file);
}

// --- lines ---------------------------------------------------------------------------------------

std::string_view trimmed(std::string_view text) noexcept {
    constexpr std::string_view blanks = " \t\r";
    while (!text.empty() && blanks.find(text.front()) != std::string_view::npos) {
        text.remove_prefix(1);
    }
    while (!text.empty() && blanks.find(text.back()) != std::string_view::npos) {
        text.remove_suffix(1);
    }
    return text;
}

/// Lines that are neither empty nor comments, trimmed.
class line_source {
public:
    explicit line_source(std::string_view text) noexcept : rest_{text} {}

    [[nodiscard]] bool next(std::string_view& line) noexcept {
        while (!rest_.empty()) {
            start_ = rest_.data();
            std::string_view const whole{rest_.data(), std::min(rest_.find('\n'), rest_.size())};
            rest_.remove_prefix(std::min(whole.size() + 1, rest_.size()));
            ++number_;
            line = trimmed(whole);
            if (!line.empty() && line.front() != '#') {
                return true;
            }
        }
        return false;
    }

    [[nodiscard]] std::uint32_t number() const noexcept { return number_; }

    /// Where the line begins that came last.
    [[nodiscard]] char const* start() const noexcept { return start_; }

    /// Where the next one does.
    [[nodiscard]] char const* position() const noexcept { return rest_.data(); }

private:
    std::string_view rest_;
    char const* start_ = nullptr;
    std::uint32_t number_ = 0;
};

/// Cuts `prefix` off; false: `line` does not begin so.
bool take_prefix(std::string_view& line, std::string_view prefix) noexcept {
    if (!line.starts_with(prefix)) {
        return false;
    }
    line.remove_prefix(prefix.size());
    line = trimmed(line);
    return true;
}

/// The part before a separator; `list` keeps what comes after it.
std::string_view take_part(std::string_view& list, char separator) noexcept {
    std::string_view const part{list.data(), std::min(list.find(separator), list.size())};
    list.remove_prefix(std::min(part.size() + 1, list.size()));
    return trimmed(part);
}

/// Bits of what "definite,possible" names; 0: it names something else.
std::uint8_t kinds_of(std::string_view list) noexcept {
    struct word {
        std::string_view name;
        reachability kind;
    };

    static constexpr std::array words{
        word{"definite", reachability::lost}, word{"indirect", reachability::indirect},
        word{"possible", reachability::possible}, word{"reachable", reachability::reachable}};
    std::uint8_t kinds = 0;
    while (!list.empty()) {
        std::string_view const name = take_part(list, ',');
        if (name == "all") {
            kinds = all_kinds;
            continue;
        }
        auto const* const found = std::find_if(
            words.begin(), words.end(), [name](word const& each) { return each.name == name; });
        if (found == words.end()) {
            return 0;
        }
        // A block of which nobody knows may be of that kind.
        kinds = static_cast<std::uint8_t>(kinds | 1U << static_cast<unsigned>(found->kind) |
                                          1U << static_cast<unsigned>(reachability::unknown));
    }
    return kinds;
}

bool is_our_kind(std::string_view line) noexcept {
    std::string_view tools = take_part(line, ':');
    bool is_ours = false;
    while (!tools.empty()) {
        is_ours = take_part(tools, ',') == "Memcheck" || is_ours;
    }
    return is_ours && trimmed(line) == "Leak";
}

/// What is wrong with a line of a block that should be a frame; empty: nothing.
std::string_view error_of_frame(std::string_view line) noexcept {
    if (line == any_frames) {
        return {};
    }
    if (take_prefix(line, "fun:")) {
        bool const is_allocation = line.starts_with("_Znw") || line.starts_with("_Zna");
        return line.starts_with("_Z") && !is_allocation
                   ? "C++ functions are matched as they are read, not mangled"
               : line.empty() ? "a frame without a pattern"
                              : "";
    }
    if (take_prefix(line, "obj:") || take_prefix(line, "src:")) {
        return line.empty() ? "a frame without a pattern" : "";
    }
    return "neither fun:, obj:, src: nor ...";
}

// --- frames --------------------------------------------------------------------------------------

bool matches_frame(std::string_view line, source_frame const& frame) noexcept {
    if (take_prefix(line, "fun:")) {
        return matches_function(line, frame.function);
    }
    if (take_prefix(line, "obj:")) {
        return matches_whole(line, frame.place == nullptr ? "" : frame.place->module());
    }
    return take_prefix(line, "src:") && matches_source(line, frame.file, frame.line);
}

/// What Valgrind has as innermost frame, and we have not: the allocation function.
bool matches_allocation(std::string_view line, leak_group const& of) noexcept {
    static constexpr std::array c{"malloc",        "calloc",         "realloc", "reallocarray",
                                  "aligned_alloc", "posix_memalign", "memalign"};
    static constexpr std::array one{"operator new(unsigned long)", "_Znwm", "_ZnwmRKSt9nothrow_t",
                                    "_ZnwmSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t"};
    static constexpr std::array array{"operator new[](unsigned long)", "_Znam",
                                      "_ZnamRKSt9nothrow_t", "_ZnamSt11align_val_t",
                                      "_ZnamSt11align_val_tRKSt9nothrow_t"};
    if (take_prefix(line, "obj:")) {
        return matches_whole(line, "/usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so");
    }
    if (!take_prefix(line, "fun:")) {
        return false;
    }
    auto const is_named = [line](char const* name) { return matches_function(line, name); };
    if (of.owner == heap_number::mp && of.by == heap::family::malloc) {
        return is_named("mp_alloc");
    }
    switch (of.by) {
        case heap::family::malloc:
            return std::any_of(c.begin(), c.end(), is_named);
        case heap::family::new_one:
            return std::any_of(one.begin(), one.end(), is_named);
        case heap::family::new_array:
            return std::any_of(array.begin(), array.end(), is_named);
    }
    return false;
}

/// One step of the automaton whose state n is "n lines have matched": from the states in `from`,
/// over a frame that `is_match` knows. A line of `...` stays where it is, too.
template <class IsMatch>
std::uint64_t step(suppression const& rule, std::uint64_t from, IsMatch is_match) noexcept {
    line_source lines{rule.frames};
    std::string_view line;
    std::uint64_t to = 0;
    std::uint64_t state = 1;
    for (; lines.next(line); state <<= 1) {
        bool const is_any = line == any_frames;
        if ((from & state) != 0 && (is_any || is_match(line))) {
            to |= is_any ? state : state << 1;
        }
        if (is_any && (to & state) != 0) {
            to |= state << 1;
        }
    }
    return (to & state) != 0 ? to | matched_bit : to;
}

/// The states before any frame.
std::uint64_t first_states(suppression const& rule) noexcept {
    line_source lines{rule.frames};
    std::string_view line;
    std::uint64_t states = 1;
    for (std::uint64_t state = 1; lines.next(line) && line == any_frames; state <<= 1) {
        states |= state << 1;
    }
    return states;
}

}  // namespace

bool matches_whole(std::string_view pattern, std::string_view text) noexcept {
    return matches(pattern, text,
                   {.start = side::closed, .end = side::closed, .has_question = true});
}

bool matches_part(std::string_view pattern, std::string_view text) noexcept {
    wildcards with{.start = side::open, .end = side::open, .has_question = false};
    if (pattern.starts_with('^')) {
        with.start = side::closed;
        pattern.remove_prefix(1);
    }
    if (pattern.ends_with('$')) {
        with.end = side::closed;
        pattern.remove_suffix(1);
    }
    return matches(pattern, text, with);
}

// --- reading -------------------------------------------------------------------------------------

struct suppressions::reader {
    suppressions& to;
    line_source lines;
    std::string_view name;
    base::text_sink& errors;
    std::size_t error_count = 0;

    void fail(std::uint32_t line, std::string_view what, std::string_view text = {}) noexcept {
        ++error_count;
        std::size_t const before = errors.view().size();
        if (errors.truncated()) {
            return;
        }
        errors << "tarn: ";
        write_plain(name, errors);
        errors << ':' << line << ": " << what;
        if (!text.empty()) {
            errors << ": ";
            write_plain({text.data(), std::min(text.size(), shown_bytes_max)}, errors);
        }
        errors << '\n';
        if (errors.truncated()) {
            errors.cut(before);
        }
    }

    void keep(suppression const& rule) noexcept {
        if (!to.add(rule)) {
            fail(rule.line, "no memory for this rule");
        }
    }

    void read_line(std::string_view line) noexcept {
        suppression rule{.is = suppression::style::pattern,
                         .kinds = all_kinds,
                         .line = lines.number(),
                         .name = line,
                         .frames = {}};
        if (!take_prefix(rule.name, "leak:")) {
            fail(rule.line, "neither leak: nor a block in braces", line);
        } else if (rule.name.empty()) {
            fail(rule.line, "leak: without a pattern");
        } else {
            keep(rule);
        }
    }

    /// Goes on to the end of a block.
    void skip_block(std::uint32_t first_line) noexcept {
        std::string_view line;
        while (lines.next(line)) {
            if (line == "}") {
                return;
            }
        }
        fail(first_line, "a block without end");
    }

    /// The next line of a block's head; false: there is none, and that has been said.
    bool next_of_head(std::uint32_t first_line, std::string_view& line) noexcept {
        if (!lines.next(line)) {
            fail(first_line, "a block without end");
            return false;
        }
        if (line == "}") {
            fail(lines.number(), "a block ends before its kind");
            return false;
        }
        return true;
    }

    void read_block() noexcept {
        suppression rule{.is = suppression::style::frames,
                         .kinds = all_kinds,
                         .line = lines.number(),
                         .name = {},
                         .frames = {}};
        std::string_view line;
        if (!next_of_head(rule.line, rule.name) || !next_of_head(rule.line, line)) {
            return;
        }
        if (line.find(':') == std::string_view::npos) {
            fail(lines.number(), "not a kind like Memcheck:Leak", line);
            return skip_block(rule.line);
        }
        if (!is_our_kind(line)) {
            return skip_block(rule.line);
        }
        read_frames(rule);
    }

    void read_frames(suppression& rule) noexcept {
        char const* start = lines.position();
        std::size_t count = 0;
        bool is_only_any = true;
        std::string_view line;
        while (lines.next(line)) {
            if (line == "}") {
                rule.frames = {start, static_cast<std::size_t>(lines.start() - start)};
                is_only_any ? fail(lines.number(), "a block without a frame that matters")
                            : keep(rule);
                return;
            }
            std::string_view kinds = line;
            std::string_view error;
            if (count == 0 && take_prefix(kinds, "match-leak-kinds:")) {
                rule.kinds = kinds_of(kinds);
                start = lines.position();
                error = rule.kinds == 0 ? "unknown kinds of leaks" : "";
            } else {
                error = ++count > frames_max ? "too many frames" : error_of_frame(line);
                is_only_any = is_only_any && line == any_frames;
            }
            if (!error.empty()) {
                fail(lines.number(), error, line);
                return skip_block(rule.line);
            }
        }
        fail(rule.line, "a block without end");
    }
};

suppressions::~suppressions() {
    if (rules_ != nullptr) {
        os::release(rules_, base::align_up(capacity_ * sizeof(suppression), os::page_bytes()));
    }
}

bool suppressions::add(suppression const& rule) noexcept {
    if (count_ == capacity_) {
        constexpr std::size_t first_capacity = 128;
        std::size_t const wanted = std::max(first_capacity, 2 * capacity_);
        std::size_t const bytes = base::align_up(wanted * sizeof(suppression), os::page_bytes());
        void* const fresh = os::reserve(bytes, {});
        if (fresh == nullptr) {
            return false;
        }
        if (!os::commit(fresh, bytes)) {
            os::release(fresh, bytes);
            return false;
        }
        if (rules_ != nullptr) {
            std::copy_n(rules_, count_, static_cast<suppression*>(fresh));
            os::release(rules_, base::align_up(capacity_ * sizeof(suppression), os::page_bytes()));
        }
        rules_ = static_cast<suppression*>(fresh);
        capacity_ = wanted;
    }
    rules_[count_++] = rule;
    return true;
}

std::size_t suppressions::read(std::string_view text, std::string_view name,
                               base::text_sink& errors) noexcept {
    reader reads{.to = *this, .lines = line_source{text}, .name = name, .errors = errors};
    std::string_view line;
    while (reads.lines.next(line)) {
        line == "{" ? reads.read_block() : reads.read_line(line);
    }
    return reads.error_count;
}

// --- matching ------------------------------------------------------------------------------------

void suppressions::begin(leak_group const& of) noexcept {
    for (suppression& rule : std::span{rules_, count_}) {
        rule.state = 0;
        bool const is_of_kind = (rule.kinds >> static_cast<unsigned>(of.reach) & 1U) != 0;
        if (!is_of_kind) {
            continue;
        }
        rule.state = 1;
        if (rule.is == suppression::style::frames) {
            std::uint64_t const first = first_states(rule);
            rule.state = first | step(rule, first, [&of](std::string_view line) {
                             return matches_allocation(line, of);
                         });
        }
    }
}

void suppressions::match(source_frame const& frame) noexcept {
    for (suppression& rule : std::span{rules_, count_}) {
        if (rule.state == 0 || (rule.state & matched_bit) != 0) {
            continue;
        }
        if (rule.is == suppression::style::frames) {
            rule.state = step(rule, rule.state, [&frame](std::string_view line) {
                return matches_frame(line, frame);
            });
        } else if (matches_part(rule.name, frame.function) ||
                   matches_part(rule.name, without_arguments(frame.function)) ||
                   matches_part(rule.name, frame.file) ||
                   (frame.place != nullptr && matches_part(rule.name, frame.place->module()))) {
            rule.state |= matched_bit;
        }
    }
}

suppression const* suppressions::finish(leak_group const& of) noexcept {
    for (suppression& rule : std::span{rules_, count_}) {
        if ((rule.state & matched_bit) != 0) {
            rule.blocks += of.blocks;
            rule.bytes += of.bytes;
            return &rule;
        }
    }
    return nullptr;
}

}  // namespace tarn::impl::debug
