#include "doctor/diagnosis.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tarn::doctor {

namespace {

// Bytes of a path or an environment that are no UTF-8 become replacement characters.
constexpr auto when_not_utf8 = nlohmann::ordered_json::error_handler_t::replace;

/// What came from outside may hold control characters, which a terminal would obey.
std::string printable(std::string text) {
    std::replace_if(
        text.begin(), text.end(),
        [](char each) { return static_cast<unsigned char>(each) < ' ' || each == '\x7f'; }, '?');
    return text;
}

/// Names of variables and of the kernel stay as they are.
std::string label(std::string key) {
    bool const is_ours =
        std::none_of(key.begin(), key.end(), [](char each) { return each >= 'A' && each <= 'Z'; });
    if (is_ours) {
        std::replace(key.begin(), key.end(), '_', ' ');
    }
    return key;
}

char const* answer_name(answer is) {
    switch (is) {
        case answer::tarn:
            return "tarn";
        case answer::other:
            return "other";
        default:
            return "unknown";
    }
}

}  // namespace

std::string format_text(diagnosis const& found) {
    std::string text = printable(found.verdict) + "\n";
    for (std::string const& reason : found.reasons) {
        text += fmt::format("  - {}\n", printable(reason));
    }
    for (section const& each : found.sections) {
        text += fmt::format("\n{}\n", label(each.key));
        for (fact const& one : each.facts) {
            text += fmt::format("  {:<22}{}{}{}\n", label(one.key), printable(one.value),
                                one.meaning.empty() ? "" : " - ", printable(one.meaning));
        }
    }
    return text;
}

std::string format_json(diagnosis const& found) {
    nlohmann::ordered_json all{
        {"answer", answer_name(found.is)},
        {"verdict", found.verdict},
        {"malloc", {{"name", found.malloc_name}, {"file", found.malloc_file}}},
        {"reasons", found.reasons}};
    for (section const& each : found.sections) {
        auto& part = all[each.key] = nlohmann::ordered_json::object();
        for (fact const& one : each.facts) {
            auto& entry = part[one.key] = {{"text", one.value}};
            if (one.number) {
                entry["number"] = *one.number;
            }
            if (!one.meaning.empty()) {
                entry["meaning"] = one.meaning;
            }
        }
    }
    return all.dump(2, ' ', false, when_not_utf8) + "\n";
}

int exit_status(answer is) {
    switch (is) {
        case answer::tarn:
            return 0;
        case answer::other:
            return 1;
        default:
            return 2;
    }
}

}  // namespace tarn::doctor
