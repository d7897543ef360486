#include "symbolize/report_rewriter.hpp"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace tarn::symbolize {

namespace {

using json = nlohmann::ordered_json;

std::string place_of(source_frame const& frame) {
    return frame.line == 0 ? frame.file : fmt::format("{}:{}", frame.file, frame.line);
}

std::string function_of(source_frame const& frame) {
    return frame.function.empty() ? "??" : frame.function;
}

std::string text_of(json const& object, char const* key) {
    auto const found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

}  // namespace

report_rewriter::report_rewriter(search_places places, complaint complain)
    : places_{std::move(places)}, complain_{std::move(complain)} {}

report_rewriter::~report_rewriter() = default;

std::vector<source_frame> report_rewriter::describe(std::string_view module,
                                                    std::string_view build_id,
                                                    std::uint64_t offset) {
    std::pair<std::string, std::string> const key{module, build_id};
    auto found = modules_.find(key);
    if (found == modules_.end()) {
        auto fresh = std::make_unique<module_symbols>(key.first, key.second, places_);
        if (!fresh->reason().empty()) {
            complain_(key.first, fresh->reason());
        }
        found = modules_.emplace(key, std::move(fresh)).first;
    }
    return found->second->describe(offset);
}

std::string report_rewriter::rewrite_numbered(numbered_line const& line) {
    if (line.number <= last_number_) {
        added_ = 0;  // another stack
    }
    last_number_ = line.number;
    auto const head = [&] { return fmt::format("{}#{} ", line.before, line.number + added_); };
    std::optional<raw_place> const raw = parse_frame(line.rest);
    std::vector<source_frame> const frames =
        raw ? describe(raw->module, raw->build_id, raw->offset) : std::vector<source_frame>{};
    if (frames.empty()) {
        return head() + std::string{line.rest};
    }
    if (frames.back().file.empty()) {
        std::string_view const rest = line.rest;
        return head() + (raw->has_function()
                             ? std::string{rest}
                             : frames.back().function + std::string{rest.substr(raw->what.size())});
    }
    std::string text;
    for (source_frame const& frame : frames) {
        if (!text.empty()) {
            text += '\n';
            ++added_;
        }
        text += fmt::format("{}{} at {}{}{}", head(), function_of(frame), place_of(frame),
                            frame.is_inlined ? " (inlined)" : "", raw->after);
    }
    return text;
}

std::string report_rewriter::rewrite_places(std::string_view line) {
    std::string text;
    while (auto const raw = find_place(line)) {
        std::vector<source_frame> const frames = describe(raw->module, raw->build_id, raw->offset);
        std::size_t const end = static_cast<std::size_t>(raw->after.data() - line.data());
        text += raw->before;
        if (frames.empty()) {
            text += line.substr(raw->before.size(), end - raw->before.size());
        } else if (frames.front().file.empty()) {
            std::size_t const start = raw->before.size() + raw->what.size();
            text += frames.front().function + std::string{line.substr(start, end - start)};
        } else {
            text += function_of(frames.front()) + " at " + place_of(frames.front());
        }
        line.remove_prefix(end);
    }
    return text + std::string{line};
}

struct report_rewriter::json_walk {
    report_rewriter& rewriter;
    bool has_changed = false;

    /// A member that is missing, or null.
    static bool lacks(json const& object, char const* key) {
        auto const found = object.find(key);
        return found == object.end() || found->is_null();
    }

    static void fill(json& object, source_frame const& frame) {
        if (!frame.function.empty()) {
            object["function"] = frame.function;
        }
        if (!frame.file.empty()) {
            object["file"] = frame.file;
        }
        if (frame.line != 0) {
            object["line"] = frame.line;
        }
        if (frame.is_inlined) {
            object["inlined"] = true;
        }
    }

    /// What is known of an object that is a frame and has no line yet.
    std::vector<source_frame> describe(json const& raw) {
        bool const is_raw = raw.is_object() && raw.contains("module") && raw.contains("offset") &&
                            lacks(raw, "line") && lacks(raw, "file");
        auto const offset = is_raw ? parse_hexadecimal(text_of(raw, "offset")) : std::nullopt;
        return offset ? rewriter.describe(text_of(raw, "module"), text_of(raw, "build_id"), *offset)
                      : std::vector<source_frame>{};
    }

    /// `raw` is a frame of a report: what replaces it.
    void resolve(json const& raw, json& to) {
        std::vector<source_frame> const frames = describe(raw);
        for (source_frame const& frame : frames) {
            json filled = raw;
            fill(filled, frame);
            to.push_back(std::move(filled));
            has_changed = true;
        }
        if (frames.empty()) {
            to.push_back(raw);
        }
    }

    void walk(json& value) {
        // A list of what is left to see: nesting may be deep.
        std::vector<json*> left{&value};
        while (!left.empty()) {
            json& here = *left.back();
            left.pop_back();
            if (!here.is_structured()) {
                continue;
            }
            for (auto item = here.begin(); item != here.end(); ++item) {
                bool const is_stack =
                    here.is_object() && (item.key() == "frames" || item.key() == "stack");
                if (here.is_object() && item.key() == "site" && item->is_object()) {
                    if (auto const frames = describe(*item); !frames.empty()) {
                        fill(*item, frames.front());
                        has_changed = true;
                    }
                } else if (is_stack && item->is_array()) {
                    json resolved = json::array();
                    for (json const& raw : *item) {
                        resolve(raw, resolved);
                    }
                    *item = std::move(resolved);
                } else {
                    left.push_back(&*item);
                }
            }
        }
    }
};

std::string report_rewriter::rewrite(std::string_view line) {
    constexpr std::string_view spaces = " \t";
    std::size_t const start = line.find_first_not_of(spaces);
    if (start != std::string_view::npos && line[start] == '{') {
        json object = json::parse(line, nullptr, false);
        if (!object.is_discarded()) {
            json_walk work{*this};
            work.walk(object);
            constexpr auto replace = json::error_handler_t::replace;
            return work.has_changed ? object.dump(-1, ' ', false, replace) : std::string{line};
        }
    }
    if (auto const numbered = parse_numbered(line)) {
        return rewrite_numbered(*numbered);
    }
    added_ = 0;
    last_number_ = 0;
    return rewrite_places(line);
}

}  // namespace tarn::symbolize
