#include "debug/lookup.hpp"

#include <cstddef>

#include "base/text.hpp"
#include "platform/os.hpp"
#include "debug/block_record.hpp"
#include "debug/record_stacks.hpp"

namespace tarn::impl::debug {

using platform::os;

namespace {

std::span<void const* const> frames_of(space::stack_id stack) noexcept {
    return record_stack_table::is_one(stack) ? record_stacks.frames(stack) : stacks.frames(stack);
}

std::string_view name_of_thread(std::uint32_t thread, std::span<char> room) noexcept {
    if (thread == 0) {
        return {};
    }
    base::text_buffer<64> path;
    path << "/proc/self/task/" << thread << "/comm" << '\0';
    int const file = os::open_read(path.view().data());
    if (file < 0) {
        return {};
    }
    std::ptrdiff_t const got = os::read_some(file, room.data(), room.size());
    os::close_file(file);
    std::string_view name{room.data(), got > 0 ? static_cast<std::size_t>(got) : 0};
    if (name.ends_with('\n')) {
        name.remove_suffix(1);
    }
    return name;
}

constexpr lookup of_process{.frames = frames_of,
                            .describe = platform::describe_calls,
                            .thread_name = name_of_thread,
                            .process_id = os::process_id};

}  // namespace

lookup const& process_lookup() noexcept { return of_process; }

}  // namespace tarn::impl::debug
