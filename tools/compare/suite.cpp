#include "compare/suite.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <utility>

#include "cli/failure.hpp"
#include "compare/allocator.hpp"

namespace tarn::compare {

namespace {

namespace fs = std::filesystem;
using cli::failure;
using nlohmann::json;

constexpr std::string_view folder_mark = "{dir}";
constexpr std::uint64_t number_max = 100'000;

bool has_folder_mark(std::vector<std::string> const& words) {
    return std::any_of(words.begin(), words.end(), [](std::string const& word) {
        return word.find(folder_mark) != std::string::npos;
    });
}

/// Reads one row; its errors name the row and the key.
class row_reader {
public:
    row_reader(json const& object, std::string place, suite_settings const* settings)
        : object_{object}, place_{std::move(place)}, settings_{settings} {}

    row read() {
        if (!object_.is_object()) {
            complain("is not an object");
        }
        row result;
        result.name = text("name", "");
        if (result.name.empty()) {
            complain("has no name");
        }
        place_ += fmt::format(" ({})", result.name);
        result.group = text("group", "programs");
        if (!std::regex_match(result.group, std::regex{"[A-Za-z0-9_+-]+( [A-Za-z0-9_+-]+)*"})) {
            complain(
                fmt::format("group '{}' is not made of letters, digits, _, + and -", result.group));
        }
        result.about = text("about", "");
        result.command = words("command");
        if (result.command.empty()) {
            complain("has no command");
        }
        result.client = words("client");
        result.input = filled(text("input", ""));
        result.uses_folder = has_folder_mark(result.command) || has_folder_mark(result.client);
        std::string const output = text("output", "same");
        if (output != "same" && output != "any") {
            complain(fmt::format("output is '{}', not \"same\" or \"any\"", output));
        }
        result.figures = text("figures", "");
        result.output =
            output == "any" || !result.figures.empty() ? output_rule::any : output_rule::same;
        result.rounds = number("rounds", 0);
        result.time_limit_s = number("time_limit_s", result.time_limit_s);
        for (auto const& [key, value] : object_.items()) {
            if (known_.count(key) == 0) {
                complain(fmt::format("has an unknown key '{}'", key));
            }
        }
        return result;
    }

private:
    [[noreturn]] void complain(std::string const& what) const {
        throw failure{fmt::format("{} {}", place_, what)};
    }

    /// The value of a key, null when it is missing.
    json const* find(std::string const& key) {
        known_.insert(key);
        auto const found = object_.find(key);
        return found == object_.end() ? nullptr : &*found;
    }

    std::string text(std::string const& key, std::string const& otherwise) {
        json const* const value = find(key);
        if (value == nullptr) {
            return otherwise;
        }
        if (!value->is_string()) {
            complain(fmt::format("{} is not a string", key));
        }
        return value->get<std::string>();
    }

    std::size_t number(std::string const& key, std::size_t otherwise) {
        json const* const value = find(key);
        if (value == nullptr) {
            return otherwise;
        }
        if (!value->is_number_unsigned() || value->get<std::uint64_t>() == 0 ||
            value->get<std::uint64_t>() > number_max) {
            complain(fmt::format("{} is not a whole number from 1 to {}", key, number_max));
        }
        return value->get<std::size_t>();
    }

    std::vector<std::string> words(std::string const& key) {
        std::vector<std::string> result;
        json const* const value = find(key);
        if (value != nullptr && !value->is_array()) {
            complain(fmt::format("{} is not a list of strings", key));
        }
        for (json const& word : value == nullptr ? json::array() : *value) {
            if (!word.is_string()) {
                complain(fmt::format("{} is not a list of strings", key));
            }
            result.push_back(filled(word.get<std::string>()));
        }
        return result;
    }

    /// `text` with its {KEY}s replaced, except {dir}.
    [[nodiscard]] std::string filled(std::string const& text) const {
        if (settings_ == nullptr) {
            return text;
        }
        std::regex const mark{"\\{([A-Za-z_][A-Za-z0-9_]*)\\}"};
        std::string result;
        auto rest = text.begin();
        for (std::sregex_iterator at{text.begin(), text.end(), mark}; at != std::sregex_iterator{};
             ++at) {
            result.append(rest, (*at)[0].first);
            rest = (*at)[0].second;
            if (at->str() == folder_mark) {
                result += folder_mark;
                continue;
            }
            auto const found = settings_->find((*at)[1].str());
            if (found == settings_->end()) {
                complain(fmt::format("uses {{{0}}}, which nothing sets; --set {0}=VALUE does",
                                     (*at)[1].str()));
            }
            result += found->second;
        }
        return result.append(rest, text.end());
    }

    json const& object_;
    std::string place_;
    suite_settings const* settings_;
    std::set<std::string> known_;
};

json parse(std::string const& path) {
    std::ifstream file{path};
    if (!file) {
        throw failure{fmt::format("suite {}: cannot be read", path)};
    }
    try {
        return json::parse(file);
    } catch (json::exception const& error) {
        throw failure{fmt::format("suite {}: {}", path, error.what())};
    }
}

}  // namespace

std::vector<row> read_suite(std::string const& path, suite_settings const* settings) {
    json const suite = parse(path);
    if (!suite.is_object() || !suite.contains("rows") || !suite["rows"].is_array()) {
        throw failure{fmt::format("suite {}: has no list \"rows\"", path)};
    }
    suite_settings all_settings;
    if (settings != nullptr) {
        all_settings = *settings;
        all_settings["suite"] = fs::absolute(path).parent_path().lexically_normal().native();
    }
    std::vector<row> rows;
    std::set<std::string> names;
    for (json const& object : suite["rows"]) {
        std::string const place = fmt::format("suite {}: row {}", path, rows.size() + 1);
        rows.push_back(
            row_reader{object, place, settings == nullptr ? nullptr : &all_settings}.read());
        if (!names.insert(rows.back().name).second) {
            throw failure{
                fmt::format("{} ({}) has the name of an earlier one", place, rows.back().name)};
        }
    }
    return rows;
}

std::vector<row> select_rows(std::vector<row> rows, std::string const& names) {
    std::vector<std::string> const wanted = split_list(names);
    for (std::string const& name : wanted) {
        if (std::none_of(rows.begin(), rows.end(),
                         [&](row const& one) { return one.name == name || one.group == name; })) {
            std::string known;
            for (row const& one : rows) {
                known += " " + one.name;
            }
            throw failure{fmt::format("no row or group is called '{}'; rows:{}", name, known)};
        }
    }
    if (!wanted.empty()) {
        std::erase_if(rows, [&](row const& one) {
            return std::find(wanted.begin(), wanted.end(), one.name) == wanted.end() &&
                   std::find(wanted.begin(), wanted.end(), one.group) == wanted.end();
        });
    }
    return rows;
}

std::string with_folder(std::string text, std::string const& folder) {
    for (std::size_t at = 0; (at = text.find(folder_mark, at)) != std::string::npos;) {
        text.replace(at, folder_mark.size(), folder);
        at += folder.size();
    }
    return text;
}

}  // namespace tarn::compare
