// debug/suppressions.hpp - suppressions: rules that say which leaks are not to be reported.
//
// A text of lines as LeakSanitizer reads them, blocks as Valgrind does, or both:
//
//     leak:pattern            a part of a function, file or module of any frame; `*`: anything;
//                             `^` at the start, `$` at the end: the name's own start, end
//     {
//        a name
//        Memcheck:Leak        blocks of other tools and kinds are passed over
//        match-leak-kinds: definite,possible
//        fun:name             frames from the innermost on, `*` and `?` in patterns; a function's
//        obj:/path/lib.so     arguments may be left out, and so a file's folder
//        src:file.c:12
//        ...                  any frames, or none
//     }
//     # comment
//
// As in Valgrind the first frame may be the allocation function (malloc, _Znwm, ...), or not. C++
// functions are matched as they are read, not mangled; a mangled pattern is an error.
//
// Threads    one at a time
// Always     the text outlives the rules, which refer to it
// Errors     a line that makes no sense is named and its rule left out; all others hold
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/text.hpp"
#include "platform/symbols.hpp"
#include "debug/leak_groups.hpp"

namespace tarn::impl::debug {

struct suppression {
    enum class style : std::uint8_t { pattern, frames } is;
    std::uint8_t kinds;        // bits of reachability
    std::uint32_t line;        // where it begins, from 1 on
    std::string_view name;     // of a block; the pattern of a line
    std::string_view frames;   // the lines of a block's frames
    std::uint64_t state = 0;   // while a stack is matched
    std::uint64_t blocks = 0;  // that it kept quiet
    std::uint64_t bytes = 0;
};

class suppressions {
public:
    constexpr suppressions() noexcept = default;
    suppressions(suppressions const&) = delete;
    suppressions& operator=(suppressions const&) = delete;
    ~suppressions();

    /// Adds the rules of a text. Errors are lines like "tarn: file.supp:12: what is wrong".
    ///
    /// @param name  of the text, for errors
    /// @return      how many errors there were; those that `errors` has no room for count too
    std::size_t read(std::string_view text, std::string_view name,
                     base::text_sink& errors) noexcept;

    [[nodiscard]] std::span<suppression const> rules() const noexcept { return {rules_, count_}; }

    /// Begins a stack, of blocks of this group; then match() for each of its frames, innermost
    /// first.
    void begin(leak_group const& of) noexcept;
    void match(platform::source_frame const& frame) noexcept;

    /// The first rule that holds for the stack; it counts the group. Null: none does.
    suppression const* finish(leak_group const& of) noexcept;

private:
    struct reader;

    [[nodiscard]] bool add(suppression const& rule) noexcept;

    suppression* rules_ = nullptr;
    std::size_t count_ = 0;
    std::size_t capacity_ = 0;
};

/// Whether a pattern with `*` and `?` is the whole text. Cost: their product at worst.
[[nodiscard]] bool matches_whole(std::string_view pattern, std::string_view text) noexcept;

/// As `leak:` patterns are.
[[nodiscard]] bool matches_part(std::string_view pattern, std::string_view text) noexcept;

}  // namespace tarn::impl::debug
