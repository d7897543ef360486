#include "live/process.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <system_error>

#include "doctor/proc_text.hpp"
#include "doctor/user.hpp"

namespace tarn::live {

namespace {

constexpr int folder_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

struct names_in_folder {
    std::vector<std::string> names;
    int error = 0;  // errno
};

/// The numbers that name the entries of a folder; takes its open descriptor.
names_in_folder numbers_in(int folder) {
    auto const close = [](DIR* open) { ::closedir(open); };
    std::unique_ptr<DIR, decltype(close)> const stream{folder < 0 ? nullptr : ::fdopendir(folder),
                                                       close};
    names_in_folder found;
    if (stream == nullptr) {
        found.error = errno;
        return found;
    }
    for (;;) {
        errno = 0;
        dirent const* const entry = ::readdir(stream.get());  // NOLINT(concurrency-mt-unsafe): own
        if (entry == nullptr) {
            found.error = errno;
            return found;
        }
        if (doctor::number_of(entry->d_name)) {
            found.names.emplace_back(entry->d_name);
        }
    }
}

}  // namespace

descriptor::~descriptor() {
    if (number_ >= 0) {
        ::close(number_);
    }
}

process::process(std::uint64_t number)
    : number_(number), folder_(::open(fmt::format("/proc/{}", number).c_str(), folder_flags)) {
    if (folder_.number() < 0) {
        if (errno != ENOENT && errno != ESRCH) {
            refuse(errno, "open its folder in /proc");
        }
        bool const has_proc = ::access("/proc/self/status", R_OK) == 0;
        throw unavailable{reason::no_process,
                          has_proc ? fmt::format("process {}: there is none", number)
                                   : "/proc is not there, so processes can't be seen"};
    }
    std::string const status = read("status");
    auto const group = doctor::number_of(doctor::value_of(status, "Tgid"));
    if (!group || has_ended()) {
        refuse(ESRCH, "read its status");
    }
    if (*group != number) {
        throw unavailable{reason::no_process,
                          fmt::format("process {0}: that is a thread of process {1}; ask for {1}",
                                      number, *group)};
    }
    if (doctor::value_of(status, "VmSize").empty()) {
        throw unavailable{
            reason::not_on_tarn,
            fmt::format("process {}: a thread of the kernel, which has no malloc", number)};
    }
    auto const users = doctor::words_of(doctor::value_of(status, "Uid"));
    user_ = users.empty() ? 0 : doctor::number_of(users[0]).value_or(0);
    own_number_ = static_cast<std::uint32_t>(innermost_number(status, number));
    std::string name = read("comm");
    name.resize(std::min(name.find('\n'), name.size()));
    name_ = printable(name);
}

std::vector<std::string> process::live_files() const {
    names_in_folder const open = numbers_in(::openat(folder_.number(), "fd", folder_flags));
    if (open.error != 0) {
        refuse(open.error, "see its open files");
    }
    std::vector<std::string> files;
    int error = 0;
    for (std::string const& name : open.names) {
        constexpr std::string_view wanted = TARN_LIVE_LINK;
        std::array<char, wanted.size() + 1> target{};
        ssize_t const length =
            ::readlinkat(folder_.number(), ("fd/" + name).c_str(), target.data(), target.size());
        if (length < 0 && errno != ENOENT) {  // not one that was closed meanwhile
            error = errno;
        } else if (length >= 0 &&
                   std::string_view{target.data(), static_cast<std::size_t>(length)} == wanted) {
            files.push_back(name);
        }
    }
    if (files.empty() && error != 0) {
        refuse(error, "see its open files");
    }
    if (files.empty() && has_ended()) {
        refuse(ESRCH, "see its open files");
    }
    if (files.empty()) {
        throw unavailable{
            reason::not_on_tarn,
            fmt::format("process {0}: shows no statistics: not on Tarn, or with live_stats=off, "
                        "younger than 0.1 s, or it has closed files it did not open; `tarn doctor "
                        "{0}` says which malloc it uses",
                        number_)};
    }
    return files;
}

descriptor process::open(std::string const& file) const {
    return descriptor{::openat(folder_.number(), ("fd/" + file).c_str(), O_RDWR | O_CLOEXEC)};
}

std::map<std::uint64_t, std::string> process::thread_names() const {
    std::map<std::uint64_t, std::string> names;
    for (std::string const& task :
         numbers_in(::openat(folder_.number(), "task", folder_flags)).names) {
        std::string const status = read(fmt::format("task/{}/status", task));
        std::string name = read(fmt::format("task/{}/comm", task));
        if (!status.empty() && !name.empty()) {
            name.resize(std::min(name.find('\n'), name.size()));
            names[innermost_number(status, doctor::number_of(task).value_or(0))] = printable(name);
        }
    }
    return names;
}

bool process::has_ended() const {
    std::string const status = read("status");
    return status.empty() || doctor::value_of(status, "State").find_first_of("ZX") == 0;
}

void process::refuse(int error, std::string_view what) const {
    if (error == ESRCH || (folder_.number() >= 0 && has_ended())) {
        throw unavailable{reason::ended, fmt::format("process {}: it has ended", number_)};
    }
    if (error != EACCES && error != EPERM) {
        throw unavailable{reason::unusable, fmt::format("process {}: cannot {}: {}", number_, what,
                                                        std::generic_category().message(error))};
    }
    bool const is_other = ::geteuid() != user_;
    throw unavailable{reason::not_permitted,
                      fmt::format("process {}: not permitted to {}; it belongs to {}{}", number_,
                                  what, doctor::user_name(static_cast<uid_t>(user_)),
                                  ::geteuid() == 0 ? ""
                                  : is_other       ? ": ask as that user or as root"
                                                   : ", and keeps others out: ask as root")};
}

std::string process::read(std::string const& path) const {
    descriptor const file{::openat(folder_.number(), path.c_str(), O_RDONLY | O_CLOEXEC)};
    std::string text;
    std::array<char, 4096> buffer{};
    while (file.number() >= 0) {
        ssize_t const got = ::read(file.number(), buffer.data(), buffer.size());
        if (got > 0) {
            text.append(buffer.data(), static_cast<std::size_t>(got));
        } else if (got == 0 || errno != EINTR) {
            break;
        }
    }
    return text;
}

std::vector<std::uint64_t> all_processes() {
    std::vector<std::uint64_t> numbers;
    for (std::string const& name : numbers_in(::open("/proc", folder_flags)).names) {
        numbers.push_back(doctor::number_of(name).value_or(0));
    }
    std::sort(numbers.begin(), numbers.end());
    return numbers;
}

std::string printable(std::string_view name) {
    std::string text{name};
    std::replace_if(
        text.begin(), text.end(), [](char each) { return each < ' ' || each > '~'; }, '?');
    return text;
}

std::uint64_t innermost_number(std::string_view status, std::uint64_t otherwise) {
    auto const numbers = doctor::words_of(doctor::value_of(status, "NSpid"));
    return numbers.empty() ? otherwise : doctor::number_of(numbers.back()).value_or(otherwise);
}

}  // namespace tarn::live
