// shm/other_program.hpp - other_program: programs/client.cpp at the other end of two pipes.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <system_error>

#include "shm/test_segment.hpp"
#include "support/process.hpp"

namespace tarn::test {

class other_program {
public:
    /// `before()` is called in the process that becomes the program.
    template <class Before>
    other_program(char const* path, test_domain const& in, Before before) {
        int to[2];
        int from[2];
        if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) {
            throw std::system_error{errno, std::generic_category()};
        }
        pid_ = start_child(120, [&] {
            before();
            ::dup2(to[0], STDIN_FILENO);
            ::dup2(from[1], STDOUT_FILENO);
            ::execl(path, path, in.path(), static_cast<char*>(nullptr));
            return 127;
        });
        ::close(to[0]);
        ::close(from[1]);
        to_ = to[1];
        from_ = from[0];
    }

    other_program(char const* path, test_domain const& in) : other_program{path, in, [] {}} {}

    other_program(other_program const&) = delete;
    other_program& operator=(other_program const&) = delete;

    ~other_program() {
        ::kill(pid_, SIGKILL);
        wait_for(pid_);
        ::close(to_);
        ::close(from_);
    }

    /// The line it answers; "gone" where it does not.
    [[nodiscard]] std::string ask(std::string const& line) const {
        std::string const whole = line + '\n';
        if (::write(to_, whole.data(), whole.size()) != static_cast<ssize_t>(whole.size())) {
            return "gone";
        }
        std::string answer;
        char one = 0;
        while (::read(from_, &one, 1) == 1) {
            if (one == '\n') {
                return answer;
            }
            answer += one;
        }
        return "gone";
    }

    [[nodiscard]] std::string ask(char const* verb, std::uint64_t number) const {
        return ask(std::string{verb} + ' ' + std::to_string(number));
    }

    /// The number in an "ok NUMBER"; UINT64_MAX: another answer.
    [[nodiscard]] std::uint64_t ask_number(std::string const& line) const {
        std::string const answer = ask(line);
        return answer.starts_with("ok ") ? std::strtoull(answer.c_str() + 3, nullptr, 10)
                                         : UINT64_MAX;
    }

private:
    pid_t pid_ = -1;
    int to_ = -1;
    int from_ = -1;
};

}  // namespace tarn::test
