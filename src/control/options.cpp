#include "control/options.hpp"

#include <algorithm>
#include <cstring>

#include "platform/os.hpp"
#include "control/report.hpp"

namespace tarn::impl::control {

using platform::os;

namespace {

constinit options in_effect;

/// substr() without its exception, which would need libstdc++. `from` <= text.size().
constexpr std::string_view part(std::string_view text, std::size_t from,
                                std::size_t count = std::string_view::npos) noexcept {
    text.remove_prefix(from);
    return {text.data(), std::min(count, text.size())};
}

/// The name with this number in "first|second|third"; empty: there are fewer.
constexpr std::string_view choice_name(std::string_view names, std::size_t number) noexcept {
    for (; number != 0 && !names.empty(); --number) {
        names = part(names, std::min(names.find('|'), names.size() - 1) + 1);
    }
    return part(names, 0, names.find('|'));
}

constexpr std::array option_names{
#define TARN_NAME(name, ...) std::string_view{#name},
    TARN_NUMBER_OPTIONS(TARN_NAME) TARN_PATH_OPTIONS(TARN_NAME) TARN_CHOICE_OPTIONS(TARN_NAME)
#undef TARN_NAME
};

/// "64", "64K", "2M", "1G", each with an optional "iB" or "B". False: not a number.
bool parse_number(std::string_view text, std::uint64_t& number) noexcept {
    std::uint64_t value = 0;
    std::size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
        if (__builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
            __builtin_add_overflow(value, static_cast<std::uint64_t>(text[digits] - '0'), &value)) {
            return false;
        }
        ++digits;
    }
    std::string_view suffix = part(text, digits);
    std::uint64_t unit = 1;
    if (!suffix.empty()) {
        char const letter = static_cast<char>(suffix.front() | 0x20);
        unit = letter == 'k' ? KiB : letter == 'm' ? MiB : letter == 'g' ? GiB : 1;
        suffix.remove_prefix(unit == 1 ? 0 : 1);
        if (unit != 1 && suffix.starts_with('i')) {
            suffix.remove_prefix(1);
        }
        if (suffix.starts_with('B')) {
            suffix.remove_prefix(1);
        }
    }
    return digits != 0 && suffix.empty() && !__builtin_mul_overflow(value, unit, &number);
}

void parse_number_option(std::string_view name, std::string_view value, std::uint64_t least,
                         std::uint64_t largest, std::uint64_t& target,
                         base::text_sink& complaints) noexcept {
    std::uint64_t number = 0;
    if (parse_number(value, number) && number >= least && number <= largest) {
        target = number;
        return;
    }
    complaints << "tarn: option " << name << ": '" << value << "' is not a number from " << least
               << " to " << largest << "; keeping " << target << '\n';
}

void parse_path_option(std::string_view name, std::string_view value, path_text& target,
                       base::text_sink& complaints) noexcept {
    if (value.size() >= path_text::bytes_max) {
        complaints << "tarn: option " << name << ": a path may have "
                   << std::uint64_t{path_text::bytes_max - 1} << " bytes; keeping '"
                   << target.view() << "'\n";
        return;
    }
    target.text.fill('\0');
    std::copy(value.begin(), value.end(), target.text.begin());
}

template <class Choice>
void parse_choice_option(std::string_view name, std::string_view value, std::string_view names,
                         Choice& target, base::text_sink& complaints) noexcept {
    for (std::size_t i = 0; !choice_name(names, i).empty(); ++i) {
        if (value == choice_name(names, i)) {
            target = static_cast<Choice>(i);
            return;
        }
    }
    complaints << "tarn: option " << name << ": '" << value << "' is none of ";
    for (std::size_t i = 0; !choice_name(names, i).empty(); ++i) {
        complaints << (i == 0 ? "" : ", ") << choice_name(names, i);
    }
    complaints << "; keeping " << choice_name(names, static_cast<std::size_t>(target)) << '\n';
}

/// Edits that turn `a` into `b` (Levenshtein), for names of ordinary length.
std::size_t distance(std::string_view a, std::string_view b) noexcept {
    constexpr std::size_t length_max = 40;
    if (a.size() > length_max || b.size() > length_max) {
        return length_max;
    }
    std::array<std::size_t, length_max + 1> row{};
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 1; i <= a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            std::size_t const above = row[j];
            row[j] =
                std::min({above + 1, row[j - 1] + 1,
                          diagonal + (a[i - 1] == b[j - 1] ? std::size_t{0} : std::size_t{1})});
            diagonal = above;
        }
    }
    return row[b.size()];
}

void complain_unknown(std::string_view key, base::text_sink& complaints) noexcept {
    auto const nearest = std::min_element(option_names.begin(), option_names.end(),
                                          [key](std::string_view a, std::string_view b) {
                                              return distance(key, a) < distance(key, b);
                                          });
    complaints << "tarn: unknown option '" << key << "' in TARN_OPTIONS; did you mean '" << *nearest
               << "'?\n";
}

void parse_option(std::string_view key, std::string_view value, options& target,
                  base::text_sink& complaints) noexcept {
#define TARN_PARSE(name, initial, least, largest, help)                           \
    if (key == #name) {                                                           \
        parse_number_option(key, value, least, largest, target.name, complaints); \
        return;                                                                   \
    }
    TARN_NUMBER_OPTIONS(TARN_PARSE)
#undef TARN_PARSE
#define TARN_PARSE(name, help)                                  \
    if (key == #name) {                                         \
        parse_path_option(key, value, target.name, complaints); \
        return;                                                 \
    }
    TARN_PATH_OPTIONS(TARN_PARSE)
#undef TARN_PARSE
#define TARN_PARSE(name, type, initial, names, help)                     \
    if (key == #name) {                                                  \
        parse_choice_option(key, value, names, target.name, complaints); \
        return;                                                          \
    }
    TARN_CHOICE_OPTIONS(TARN_PARSE)
#undef TARN_PARSE
    complain_unknown(key, complaints);
}

/// The value of a variable, or empty.
std::string_view variable(char** environment, std::string_view name) noexcept {
    for (; environment != nullptr && *environment != nullptr; ++environment) {
        std::string_view const entry{*environment};
        if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') {
            return part(entry, name.size() + 1);
        }
    }
    return {};
}

}  // namespace

options const& current_options() noexcept { return in_effect; }

void parse_options(std::string_view text, options& target, base::text_sink& complaints) noexcept {
    while (!text.empty()) {
        std::size_t const comma = std::min(text.find(','), text.size());
        std::string_view const item = part(text, 0, comma);
        text.remove_prefix(std::min(comma + 1, text.size()));
        if (item.empty()) {
            continue;
        }
        std::size_t const equals = item.find('=');
        if (equals == std::string_view::npos) {
            complaints << "tarn: '" << item << "' in TARN_OPTIONS lacks '=value'\n";
            continue;
        }
        parse_option(part(item, 0, equals), part(item, equals + 1), target, complaints);
    }
}

void load_options() noexcept {
    if (os::is_secure()) {
        return;
    }
    char** const environment = os::initial_environment();
    base::text_buffer<6144> complaints;  // with verbose=1 all options, too
    parse_options(variable(environment, "TARN_OPTIONS"), in_effect, complaints);
    if (std::string_view const mode = variable(environment, "TARN_MODE"); !mode.empty()) {
        parse_option("mode", mode, in_effect, complaints);
    }
    if (in_effect.verbose != 0) {
        describe_options(in_effect, complaints);
    }
    if (!complaints.view().empty()) {
        write_report(complaints.view());
    }
}

void describe_options(options const& of, base::text_sink& to) noexcept {
    constexpr std::size_t name_width = 20;
    constexpr std::size_t value_width = 14;
#define TARN_DESCRIBE(name, initial, least, largest, help) \
    to.padded(#name, name_width) << ' ';                   \
    to.padded(of.name, value_width) << "  " << (help) << '\n';
    TARN_NUMBER_OPTIONS(TARN_DESCRIBE)
#undef TARN_DESCRIBE
#define TARN_DESCRIBE(name, help)        \
    to.padded(#name, name_width) << ' '; \
    to.padded(of.name.empty() ? "-" : of.name.view(), value_width) << "  " << (help) << '\n';
    TARN_PATH_OPTIONS(TARN_DESCRIBE)
#undef TARN_DESCRIBE
#define TARN_DESCRIBE(name, type, initial, names, help)                           \
    to.padded(#name, name_width) << ' ';                                          \
    to.padded(choice_name(names, static_cast<std::size_t>(of.name)), value_width) \
        << "  " << (names) << ": " << (help) << '\n';
    TARN_CHOICE_OPTIONS(TARN_DESCRIBE)
#undef TARN_DESCRIBE
}

}  // namespace tarn::impl::control
