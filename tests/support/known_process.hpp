// support/known_process.hpp - a debug::lookup whose stacks, calls and threads a test makes up.
//
// Threads    one: it is global, and a test begins with known_process::reset()
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bits.hpp"
#include "debug/lookup.hpp"

namespace tarn::test {

struct known_process {
    struct source {
        std::string function = {};
        std::string file = {};
        unsigned line = 0;
        std::string module = "/opt/app/bin/app";
        std::uintptr_t offset = 0x10;
        std::string build_id = "0123abcd";
    };

    std::map<std::uint32_t, std::vector<void const*>> stacks = {};
    std::map<std::uintptr_t, std::vector<source>> calls = {};  // innermost inlined first
    std::map<std::uint32_t, std::string> threads = {};
    std::size_t described = 0;  // addresses

    static known_process& now() {
        static known_process it;
        return it;
    }

    static known_process& reset() { return now() = {}; }

    /// A stack of so many calls, each of one of these.
    impl::space::stack_id add(std::uint32_t number, std::vector<source> const& sources) {
        for (source const& each : sources) {
            std::uintptr_t const address = 0x40'1000 + 0x10 * (calls.size() + 1);
            calls[address] = {each};
            stacks[number].push_back(impl::base::pointer_to(address));
        }
        return static_cast<impl::space::stack_id>(number);
    }

    static impl::debug::lookup const& by() {
        static constexpr impl::debug::lookup made{.frames = frames_of,
                                                  .describe = describe,
                                                  .thread_name = name_of,
                                                  .process_id = process_id};
        return made;
    }

private:
    static std::span<void const* const> frames_of(impl::space::stack_id stack) noexcept {
        auto const found = now().stacks.find(static_cast<std::uint32_t>(stack));
        return found == now().stacks.end() ? std::span<void const* const>{} : found->second;
    }

    static void describe(std::span<void const* const> addresses,
                         impl::platform::frame_visitor visit) noexcept {
        for (std::size_t i = 0; i < addresses.size(); ++i) {
            ++now().described;
            auto const found = now().calls.find(impl::base::address_of(addresses[i]));
            if (found == now().calls.end()) {
                impl::platform::code_place const nowhere = place_of({.module = "", .build_id = ""});
                visit({.call = i, .return_address = addresses[i], .place = &nowhere});
                continue;
            }
            for (std::size_t k = 0; k < found->second.size(); ++k) {
                source const& it = found->second[k];
                impl::platform::code_place const place = place_of(it);
                visit({.call = i,
                       .return_address = addresses[i],
                       .place = &place,
                       .function = it.function,
                       .file = it.file,
                       .line = it.line,
                       .is_inlined = k + 1 < found->second.size()});
            }
        }
    }

    static impl::platform::code_place place_of(source const& from) {
        impl::platform::code_place place;
        place.offset = from.offset;
        place.path_bytes = std::min(from.module.size(), place.path.size());
        std::copy_n(from.module.data(), place.path_bytes, place.path.data());
        place.build_id_digit_count = std::min(from.build_id.size(), place.build_id_digits.size());
        std::copy_n(from.build_id.data(), place.build_id_digit_count, place.build_id_digits.data());
        return place;
    }

    static std::string_view name_of(std::uint32_t thread, std::span<char> room) noexcept {
        auto const found = now().threads.find(thread);
        if (found == now().threads.end()) {
            return {};
        }
        std::size_t const bytes = std::min(room.size(), found->second.size());
        std::copy_n(found->second.data(), bytes, room.data());
        return {room.data(), bytes};
    }

    static std::uint32_t process_id() noexcept { return 4700; }
};

}  // namespace tarn::test
