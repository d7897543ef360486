// platform/linux/code_objects.hpp - code_objects: the program's files of code, as far as what was
// learned of one may be used later.
//
// An object that can be unloaded may be replaced by another at the same addresses. So what is kept
// about its code names a slot here, and whoever uses it asks once a walk whether the object of that
// slot is still there, by its build id: what the linker derived from all contents. Objects without
// one are not kept.
// Threads    any, also in a signal handler; no lock
// Always     slots are never used again for another object; where they run out nothing is kept
// Cost       find_object(): 6 ns. is_there(): the same, and finding the build id by the object's
//            headers
// Tests      unit/platform/stack_walk_test.cpp
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "platform/linux/rule_cache.hpp"
#include "platform/linux/unwind_rules.hpp"

struct link_map;

namespace tarn::impl::platform {

struct code_object {
    unwind_tables tables;
    link_map const* map = nullptr;
};

/// The object that an address lies in; nothing: there is none, or the system can't say (libc
/// before 2.35).
std::optional<code_object> find_object(std::uintptr_t pc) noexcept;

class code_objects {
public:
    /// The object's slot, which is made when this is its first time: `permanent` for what was there
    /// when the program started, `none` where there is no telling it from another.
    object_slot slot_of(code_object const& object) noexcept;

    /// Whether `pc` lies in that object.
    [[nodiscard]] bool is_there(object_slot slot, std::uintptr_t pc) const noexcept;

private:
    static constexpr std::size_t id_words = 3;  // 20 bytes are usual

    struct identity {
        std::uintptr_t start = 0;
        std::uintptr_t end = 0;
        std::uintptr_t header = 0;
        std::array<std::uint64_t, id_words> build_id{};

        bool operator==(identity const&) const noexcept = default;
    };

    enum class state : std::uint32_t { free, filling, filled };

    struct record {
        std::atomic<state> status{state::free};
        std::array<std::atomic<std::uint64_t>, 3 + id_words> words{};
    };

    static std::optional<identity> identify(code_object const& object) noexcept;
    static identity read(record const& from) noexcept;

    // Slots 1 to 254. A thread that is lost while it fills one (fork) loses that slot.
    std::array<record, 254> records_{};
};

}  // namespace tarn::impl::platform
