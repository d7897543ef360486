// attack.hpp - the frame of attacks on the heap: what surrounds a bug, and what says that it did
// harm.
//
// An attack sets a scene of ordinary blocks, does one wrong thing, goes on as a program would, and
// looks for harm: a victim's data changed or read, memory handed out twice, the wrong call carried
// out in silence. It tells the driver on stdout, a line each:
//   access, done   before and after an access that is wrong: a fault between them is the access's
//   harm           when harm is seen; a report that comes later came too late
//   the outcome    `missed`, `neutralised` or `refused`, when the attack is over
// All memory of the frame's own is static, so that it asks nothing of the heap under attack.
//
// Tame, an attack does all but the wrong thing. Then nothing may be found: what is found otherwise
// is due to the bug alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace attacks {

enum class outcome { neutralised, refused, missed };

struct attack {
    char const* kind;
    char const* name;
    outcome (*run)(std::size_t bytes);
    bool of_all_sizes;  // run with 8 bytes, 4 KiB and 256 KiB; else with 0
    char const* text;
};

extern std::span<attack const> const bounds_attacks;  // overflow, underflow, zero-size access
extern std::span<attack const> const free_attacks;    // double and invalid frees, mismatches
extern std::span<attack const> const stale_attacks;   // reuse, accesses after free, old contents
extern std::span<attack const> const size_attacks;    // sizes that can't be

/// Whether the wrong thing is done.
extern bool armed;

/// Hides from the compiler where a pointer comes from: it would warn of the bug, or remove it.
template <class T>
[[nodiscard]] T* hidden(T* ptr) {
    asm volatile("" : "+r"(ptr) : : "memory");
    return ptr;
}

void say(char const* line);
void note_harm();

template <class F>
void wrong_access(F access) {
    if (armed) {
        say("access\n");
        access();
        asm volatile("" : : : "memory");
        say("done\n");
    }
}

template <class F>
void wrong_call(F call) {
    if (armed) {
        call();
        asm volatile("" : : : "memory");
    }
}

/// From malloc; ends the process with status 3 where there is none.
[[nodiscard]] char* get(std::size_t bytes);

/// Writes one byte after the other, upwards.
void fill(char* first, char value, std::size_t bytes);
/// With the secret, again and again.
void fill_with_secret(char* first, std::size_t bytes);
[[nodiscard]] bool is_secret(char const* first, std::size_t bytes);
[[nodiscard]] bool has_secret(char const* first, std::size_t bytes);

/// Reads 4 KiB, one byte after the other, upwards. Returns whether the secret is among them.
[[nodiscard]] bool read_finds_secret(char const* first, std::size_t bytes);

/// Copies without a fault; false where memory can't be read.
[[nodiscard]] bool copy_if_readable(void* to, void const* from, std::size_t bytes);

/// The blocks around a bug, all alive and, but for the attacker's, full of the secret.
class scene {
public:
    static constexpr std::size_t blocks_max = 8192;

    enum class content { secret, nothing };

    /// Some blocks of this size: the more, the smaller.
    explicit scene(std::size_t bytes, content what = content::secret);

    scene(scene const&) = delete;
    scene& operator=(scene const&) = delete;
    ~scene() = default;

    /// The attacker's block, which has others before and behind it.
    [[nodiscard]] char* attacker() const { return attacker_; }

    /// A live block with the highest address.
    [[nodiscard]] char* highest() const;

    /// Some other live block, which is a victim no longer; never the same one twice.
    [[nodiscard]] char* take();

    /// The attacker's block is freed, or the attack's own affair from now on.
    void forget_attacker();

    /// One more block that the program holds, with what is in it.
    void hold(char* first, std::size_t bytes);
    /// `count` more blocks of this size that hold the secret.
    void hold_new(std::size_t bytes, std::size_t count);
    /// Memory that is no block, and must never be part of one.
    void forbid(char const* first, std::size_t bytes);

    /// Whether a block's secret was changed.
    [[nodiscard]] bool is_harmed() const;
    /// Allocates many blocks of a size; harm if one lies in another, or in what is held or
    /// forbidden.
    void look_for_overlaps(std::size_t bytes);
    /// Looks for overlaps, frees what is held; missed if there was harm.
    [[nodiscard]] outcome judge();

private:
    struct block {
        char* first;
        std::size_t bytes;
        bool victim;  // full of the secret, else of anything
        bool freed;   // not by the scene
    };

    void add(char* first, std::size_t bytes, bool victim);

    std::array<block, blocks_max> blocks_{};
    std::size_t count_ = 0;
    std::size_t bytes_;
    std::size_t next_to_take_ = 0;
    char* attacker_ = nullptr;
    char const* forbidden_ = nullptr;
    std::size_t forbidden_bytes_ = 0;
};

/// How many blocks make a crowd, by their size. Odd, so that a crowd does not end where a page of
/// the allocator's does, behind which anything is foreign.
[[nodiscard]] constexpr std::size_t some(std::size_t bytes) {
    return bytes <= 64 ? 1535 : bytes <= std::size_t{64} << 10 ? 63 : 15;
}

}  // namespace attacks
