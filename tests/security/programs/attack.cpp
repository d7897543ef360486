// attack.cpp - the frame of the attacks, and their main program.
//
//     attack --list       a line for each case: name, kind, bytes, what it does; by tabs
//     attack CASE         does it
//     attack --tame CASE  does all but the wrong thing
#include "attack.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace attacks {

namespace {

constexpr std::uint64_t secret = 0x7365'6372'6574'4b65;
constexpr std::size_t crowd_before = 4;  // a quarter of the crowd comes before the attacker's block
constexpr std::array<std::size_t, 3> sizes{8, std::size_t{4} << 10, std::size_t{256} << 10};

bool harm_seen = false;

struct range {
    char const* first;
    char const* end;
};

// Of what is held, of what look_for_overlaps() gets, and of what is forbidden.
std::array<range, 3 * scene::blocks_max> ranges;
std::array<char*, scene::blocks_max> got;
std::array<char, 4096> seen;

constexpr std::size_t many(std::size_t bytes) {
    return bytes <= 64 ? 2048 : bytes <= std::size_t{64} << 10 ? 256 : 24;
}

/// At both ends of a block, as far as they are its own.
void mark(char* block, std::size_t bytes, std::size_t number) {
    auto const value = static_cast<char>(number % 251);
    block[0] = value;
    block[bytes - 1] = value;
}

bool is_marked(char const* block, std::size_t bytes, std::size_t number) {
    auto const value = static_cast<char>(number % 251);
    return block[0] == value && block[bytes - 1] == value;
}

}  // namespace

bool armed = true;

void say(char const* line) {
    if (::write(STDOUT_FILENO, line, std::strlen(line)) < 0) {
        ::_exit(4);
    }
}

void note_harm() {
    if (!harm_seen) {
        harm_seen = true;
        say("harm\n");
    }
}

char* get(std::size_t bytes) {
    auto* const block = static_cast<char*>(hidden(std::malloc(bytes)));
    if (block == nullptr) {
        ::_exit(3);
    }
    return block;
}

void fill(char* first, char value, std::size_t bytes) {
    auto* const to = static_cast<char volatile*>(first);
    for (std::size_t i = 0; i < bytes; ++i) {
        to[i] = value;
    }
}

void fill_with_secret(char* first, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += sizeof secret) {
        std::memcpy(first + at, &secret, std::min(sizeof secret, bytes - at));
    }
}

bool is_secret(char const* first, std::size_t bytes) {
    for (std::size_t at = 0; at < bytes; at += sizeof secret) {
        if (std::memcmp(first + at, &secret, std::min(sizeof secret, bytes - at)) != 0) {
            return false;
        }
    }
    return true;
}

bool has_secret(char const* first, std::size_t bytes) {
    return ::memmem(first, bytes, &secret, sizeof secret) != nullptr;
}

bool read_finds_secret(char const* first, std::size_t bytes) {
    auto const* const from = static_cast<char const volatile*>(first);
    for (std::size_t i = 0; i < std::min(bytes, seen.size()); ++i) {
        seen[i] = from[i];
    }
    return has_secret(seen.data(), std::min(bytes, seen.size()));
}

bool copy_if_readable(void* to, void const* from, std::size_t bytes) {
    constexpr std::size_t step = 4096;  // a pipe takes that at once
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        ::_exit(3);
    }
    bool readable = true;
    for (std::size_t at = 0; at < bytes && readable; at += step) {
        std::size_t const now = std::min(step, bytes - at);
        readable = ::write(ends[1], static_cast<char const*>(from) + at, now) ==
                       static_cast<ssize_t>(now) &&
                   ::read(ends[0], static_cast<char*>(to) + at, now) == static_cast<ssize_t>(now);
    }
    ::close(ends[0]);
    ::close(ends[1]);
    return readable;
}

scene::scene(std::size_t bytes, content what) : bytes_{bytes} {
    std::size_t const count = some(bytes);
    for (std::size_t i = 0; i < count; ++i) {
        char* const first = get(bytes);
        if (i == count / crowd_before) {
            fill(first, 'a', bytes);
            attacker_ = first;
        } else if (what == content::secret) {
            fill_with_secret(first, bytes);
        } else {
            fill(first, 'n', bytes);
        }
        add(first, bytes, what == content::secret && first != attacker_);
    }
}

void scene::add(char* first, std::size_t bytes, bool victim) {
    if (count_ == blocks_max) {
        ::_exit(3);
    }
    blocks_[count_++] = block{first, bytes, victim, false};
}

char* scene::highest() const {
    auto const held = std::span{blocks_.data(), count_};
    return std::ranges::max_element(held, {}, &block::first)->first;
}

char* scene::take() {
    while (blocks_[next_to_take_].first == attacker_) {
        ++next_to_take_;
    }
    block& taken = blocks_[next_to_take_++];
    taken.victim = false;
    taken.freed = true;
    return taken.first;
}

void scene::forget_attacker() {
    for (block& each : std::span{blocks_.data(), count_}) {
        each.freed = each.freed || each.first == attacker_;
    }
}

void scene::hold(char* first, std::size_t bytes) { add(first, bytes, false); }

void scene::hold_new(std::size_t bytes, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        char* const first = get(bytes);
        fill_with_secret(first, bytes);
        add(first, bytes, true);
    }
}

void scene::forbid(char const* first, std::size_t bytes) {
    forbidden_ = first;
    forbidden_bytes_ = bytes;
}

bool scene::is_harmed() const {
    return std::ranges::any_of(std::span{blocks_.data(), count_}, [](block const& each) {
        return each.victim && !is_secret(each.first, each.bytes);
    });
}

void scene::look_for_overlaps(std::size_t bytes) {
    std::size_t const count = many(bytes);
    std::size_t used = 0;
    for (block const& each : std::span{blocks_.data(), count_}) {
        if (!each.freed) {
            ranges[used++] = {each.first, each.first + each.bytes};
        }
    }
    if (forbidden_ != nullptr) {
        ranges[used++] = {forbidden_, forbidden_ + forbidden_bytes_};
    }
    for (std::size_t i = 0; i < count; ++i) {
        got[i] = get(bytes);
        ranges[used++] = {got[i], got[i] + bytes};
    }
    std::sort(ranges.begin(), ranges.begin() + used,
              [](range const& a, range const& b) { return a.first < b.first; });
    for (std::size_t i = 1; i < used; ++i) {
        if (ranges[i].first < ranges[i - 1].end) {
            note_harm();
        }
    }
    for (std::size_t i = 0; i < count; ++i) {
        mark(got[i], bytes, i);
    }
    for (std::size_t i = 0; i < count; ++i) {
        if (!is_marked(got[i], bytes, i)) {
            note_harm();
        }
    }
    if (is_harmed()) {
        note_harm();
    }
    for (std::size_t i = 0; i < count; ++i) {
        std::free(got[i]);
    }
}

outcome scene::judge() {
    if (is_harmed()) {
        note_harm();
    }
    look_for_overlaps(bytes_);
    for (block const& each : std::span{blocks_.data(), count_}) {
        if (!each.freed) {
            std::free(each.first);
        }
    }
    return harm_seen ? outcome::missed : outcome::neutralised;
}

}  // namespace attacks

namespace {

using attacks::attack;

constexpr std::array<char const*, 3> size_names{"8", "4K", "256K"};

/// Calls `use` with each case, its name and its bytes.
template <class F>
void for_each_case(F use) {
    for (std::span<attack const> const of_one_file : {
             attacks::bounds_attacks,
             attacks::size_attacks,
             attacks::free_attacks,
             attacks::stale_attacks,
         }) {
        for (attack const& each : of_one_file) {
            for (std::size_t i = 0; i < attacks::sizes.size(); ++i) {
                std::array<char, 80> name{};
                if (each.of_all_sizes) {
                    (void)std::snprintf(name.data(), name.size(), "%s.%s.%s", each.kind, each.name,
                                        size_names[i]);
                    use(each, name.data(), attacks::sizes[i]);
                } else if (i == 0) {
                    (void)std::snprintf(name.data(), name.size(), "%s.%s", each.kind, each.name);
                    use(each, name.data(), std::size_t{0});
                }
            }
        }
    }
}

char const* text_of(attacks::outcome result) {
    switch (result) {
        case attacks::outcome::neutralised:
            return "neutralised\n";
        case attacks::outcome::refused:
            return "refused\n";
        case attacks::outcome::missed:
            break;
    }
    return "missed\n";
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): that is no outcome that the driver accepts
int main(int count, char** arguments) {
    char const* const first = count > 1 ? arguments[1] : "";
    if (std::strcmp(first, "--list") == 0) {
        for_each_case([](attack const& each, char const* name, std::size_t bytes) {
            std::printf("%s\t%s\t%zu\t%s\n", name, each.kind, bytes, each.text);
        });
        return 0;
    }
    attacks::armed = std::strcmp(first, "--tame") != 0;
    char const* const wanted = attacks::armed ? first : count > 2 ? arguments[2] : "";
    int status = 2;
    for_each_case([&](attack const& each, char const* name, std::size_t bytes) {
        if (std::strcmp(name, wanted) == 0) {
            attacks::say(text_of(each.run(bytes)));
            status = 0;
        }
    });
    return status;
}
