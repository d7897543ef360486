// live/process.hpp - a process as /proc shows it, and where its live statistics file is open.
//
// Threads    one
// Always     held by its folder in /proc, so that a process which later gets the same number is
//            never mistaken for it
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "live/figures.hpp"

namespace tarn::live {

/// An open file; closes itself.
class descriptor {
public:
    explicit descriptor(int number) : number_(number) {}

    ~descriptor();

    descriptor(descriptor&& from) noexcept : number_(from.number_) { from.number_ = -1; }

    descriptor& operator=(descriptor&&) = delete;
    descriptor(descriptor const&) = delete;
    descriptor& operator=(descriptor const&) = delete;

    /// Negative: there is none, and errno said why.
    [[nodiscard]] int number() const { return number_; }

private:
    int number_;
};

class process {
public:
    /// Throws unavailable: no such process, ended, a thread, one of the kernel's.
    explicit process(std::uint64_t number);

    [[nodiscard]] std::uint64_t number() const { return number_; }

    /// As the process itself sees it: another one in a container.
    [[nodiscard]] std::uint32_t own_number() const { return own_number_; }

    [[nodiscard]] std::string const& name() const { return name_; }

    /// Descriptors that lead to a file called TARN_LIVE_LINK: one, after fork maybe two.
    /// Throws unavailable: not permitted, ended, none.
    [[nodiscard]] std::vector<std::string> live_files() const;

    /// Opens /proc/PID/fd/`file` for reading and writing. May fail.
    [[nodiscard]] descriptor open(std::string const& file) const;

    /// Names of its threads, by the number that the process itself sees. Those that can't be read
    /// are left out.
    [[nodiscard]] std::map<std::uint64_t, std::string> thread_names() const;

    [[nodiscard]] bool has_ended() const;

    /// Throws unavailable, with a text for errno `error` at a step in which "cannot `what`".
    [[noreturn]] void refuse(int error, std::string_view what) const;

private:
    [[nodiscard]] std::string read(std::string const& path) const;

    std::uint64_t number_;
    descriptor folder_;
    std::uint64_t user_ = 0;
    std::uint32_t own_number_ = 0;
    std::string name_;
};

/// Numbers of all processes that /proc shows, ascending.
std::vector<std::uint64_t> all_processes();

/// `name` as the system tells it, without what would steer a terminal.
std::string printable(std::string_view name);

/// The process's number in the innermost of its namespaces, from a status file; `otherwise` where
/// the system does not tell.
std::uint64_t innermost_number(std::string_view status, std::uint64_t otherwise);

}  // namespace tarn::live
