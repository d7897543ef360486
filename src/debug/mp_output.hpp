// debug/mp_output.hpp - mp_output: where the reports of mp.h go.
//
// Threads    configure(): one thread, while nobody else is here. All else: any.
// Always     a report is one write, or one call of the program's function: lines of several threads
//            do not mix. What that function itself causes to be reported goes to standard error. A
//            closed descriptor, or a file that can't be opened, loses the text, never the program.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/text.hpp"
#include "platform/os.hpp"

namespace tarn::impl::debug {

enum class mp_target : std::uint8_t { descriptor, file, call };

enum class mp_format : std::uint8_t { text, json };

struct mp_destination {
    static constexpr int standard_error = 2;
    static constexpr std::size_t path_bytes_max = 511;

    mp_target to = mp_target::descriptor;
    mp_format format = mp_format::text;
    int descriptor = standard_error;
    std::array<char, path_bytes_max + 1> path{};  // appended to; ends with a zero
    void (*call)(char const* text, std::size_t bytes, void* context) = nullptr;
    void* context = nullptr;
};

class mp_output {
public:
    void configure(mp_destination const& wanted) noexcept { where_ = wanted; }

    [[nodiscard]] mp_format format() const noexcept { return where_.format; }

    void write(std::string_view text) noexcept;

    /// Whether the calling thread is in the program's function.
    [[nodiscard]] bool is_calling() const noexcept;

    /// In the child, where no other thread is in anything.
    void forget_other_threads() noexcept;

private:
    static constexpr std::size_t calls_max = 16;  // at once; of more it is not known who they are

    void call(std::string_view text) noexcept;

    mp_destination where_;
    std::array<std::atomic<std::uint32_t>, calls_max> calling_{};  // threads
};

/// A mapping of its own to write a report in, else, without memory for it, a few lines.
class report_room {
public:
    report_room() noexcept;
    ~report_room();
    report_room(report_room const&) = delete;
    report_room& operator=(report_room const&) = delete;

    [[nodiscard]] base::text_sink& sink() noexcept { return sink_; }

private:
    std::byte* mapped_;
    std::array<char, 2048> small_;  // left uninitialised
    base::text_sink sink_;
};

}  // namespace tarn::impl::debug
