#include "stats_file.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bitset>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <optional>
#include <system_error>

namespace tarn::cli {

namespace {

constexpr std::size_t file_bytes_max = std::size_t{1} << 20;  // a report has about 1 KiB
constexpr std::size_t quoted_max = 40;                        // characters of a bad line shown

/// The words of a line, which single blanks separate.
std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    for (std::size_t start = 0; start <= line.size();) {
        std::size_t const end = std::min(line.find(' ', start), line.size());
        words.push_back(line.substr(start, end - start));
        start = end + 1;
    }
    return words;
}

std::optional<std::uint64_t> number_of(std::string_view word) {
    std::uint64_t number = 0;
    auto const [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    bool const whole = error == std::errc{} && end == word.data() + word.size();
    return whole ? std::optional{number} : std::nullopt;
}

std::string quoted(std::string_view line) {
    std::string text;
    for (char const each : line.substr(0, quoted_max)) {
        text += each >= ' ' && each <= '~' ? each : '?';
    }
    return fmt::format("'{}{}'", text, line.size() > quoted_max ? "..." : "");
}

bool is_key(std::string_view word) {
    return !word.empty() && std::all_of(word.begin(), word.end(), [](char each) {
        return (each >= 'a' && each <= 'z') || (each >= '0' && each <= '9') || each == '_';
    });
}

class parser {
public:
    explicit parser(std::string name) { file_.name = std::move(name); }

    parsed_stats_file parse(std::string_view text) && {
        while (!text.empty() && file_.error.empty()) {
            ++line_;
            std::size_t const end = text.find('\n');
            if (end == std::string_view::npos) {
                fail("cut off");
                break;
            }
            read_line(text.substr(0, end));
            text.remove_prefix(end + 1);
        }
        finish_report();
        if (file_.error.empty() && line_ == 0) {
            line_ = 1;
            fail("empty");
        }
        return std::move(file_);
    }

private:
    void fail(std::string const& what) {
        file_.error = fmt::format("file {}, line {}: {}", file_.name, line_, what);
    }

    void read_line(std::string_view line) {
        auto const words = words_of(line);
        if (words[0] == "tarn") {
            finish_report();
            if (file_.error.empty()) {
                start_report(line, words);
            }
        } else if (!open_) {
            fail(fmt::format("expected 'tarn VERSION pid NUMBER', found {}", quoted(line)));
        } else if (words[0] == "class") {
            read_class(line, words);
        } else {
            read_value(line, words);
        }
    }

    void start_report(std::string_view line, std::vector<std::string_view> const& words) {
        auto const pid = words.size() == 4 ? number_of(words[3]) : std::nullopt;
        if (!pid || words[1].empty() || words[2] != "pid") {
            fail(fmt::format("expected 'tarn VERSION pid NUMBER', found {}", quoted(line)));
            return;
        }
        open_ = true;
        seen_.reset();
        report_ = {};
        report_.version = words[1];
        report_.pid = *pid;
    }

    void read_class(std::string_view line, std::vector<std::string_view> const& words) {
        auto const number = [&words](std::size_t at) {
            return words.size() == 4 ? number_of(words[at]) : std::nullopt;
        };
        auto const bytes = number(1);
        auto const allocations = number(2);
        auto const live = number(3);
        if (!bytes || !allocations || !live) {
            fail(fmt::format("expected 'class BLOCK_BYTES ALLOCATIONS LIVE_BLOCKS', found {}",
                             quoted(line)));
            return;
        }
        report_.classes.push_back({*bytes, *allocations, *live});
    }

    void read_value(std::string_view line, std::vector<std::string_view> const& words) {
        auto const value = words.size() == 2 ? number_of(words[1]) : std::nullopt;
        if (!value || !is_key(words[0])) {
            fail(fmt::format("expected 'KEY NUMBER', found {}", quoted(line)));
            return;
        }
        auto const key = std::find_if(keys.begin(), keys.end(), [&words](auto const& each) {
            return each.first == words[0];
        });
        if (key == keys.end()) {
            for (auto const& [name, member] : later_keys) {
                if (name == words[0]) {
                    report_.*member = *value;
                }
            }
            return;
        }
        auto const index = static_cast<std::size_t>(key - keys.begin());
        if (seen_[index]) {
            fail(fmt::format("a second {}", quoted(words[0])));
            return;
        }
        seen_.set(index);
        report_.*(key->second) = *value;
    }

    /// Keeps the report under way if it is complete.
    void finish_report() {
        if (!open_ || !file_.error.empty()) {
            return;
        }
        open_ = false;
        if (!seen_.all()) {
            std::size_t missing = 0;
            while (seen_[missing]) {
                ++missing;
            }
            fail(fmt::format("the report of process {} has no {}", report_.pid,
                             quoted(keys[missing].first)));
            return;
        }
        file_.reports.push_back(std::move(report_));
    }

    parsed_stats_file file_;
    process_stats report_;
    std::bitset<keys.size()> seen_;
    bool open_ = false;
    std::size_t line_ = 0;
};

parsed_stats_file unreadable(std::string const& name, std::string_view why) {
    return {.name = name, .reports = {}, .error = fmt::format("file {}: {}", name, why)};
}

parsed_stats_file read_stats_file(std::string const& path, std::string const& name) {
    // Whatever a program put there: no waiting on a pipe, no following a link.
    int const fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return unreadable(name, std::generic_category().message(errno));
    }
    struct stat info = {};
    bool const regular = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    std::string text;
    ssize_t got = regular ? 1 : 0;
    while (got > 0 && text.size() < file_bytes_max) {
        std::array<char, 4096> part{};
        got = ::read(fd, part.data(), part.size());
        text.append(part.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    ::close(fd);
    if (!regular) {
        return unreadable(name, "not a regular file");
    }
    if (got != 0) {
        return unreadable(name, got < 0 ? "can't be read" : "too long for a report");
    }
    return parse_stats(name, text);
}

}  // namespace

parsed_stats_file parse_stats(std::string name, std::string_view text) {
    return parser{std::move(name)}.parse(text);
}

std::vector<parsed_stats_file> read_stats_files(std::string const& folder) {
    std::vector<std::string> names;
    std::error_code error;
    if (!folder.empty()) {
        for (std::filesystem::directory_iterator at{folder, error}, end; !error && at != end;
             at.increment(error)) {
            names.push_back(at->path().filename().native());
        }
    }
    std::sort(names.begin(), names.end());
    std::vector<parsed_stats_file> files;
    files.reserve(names.size());
    for (std::string const& name : names) {
        files.push_back(read_stats_file(std::filesystem::path{folder} / name, name));
    }
    return files;
}

}  // namespace tarn::cli
