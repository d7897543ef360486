#include "debug/fault_handler.hpp"

#include <array>
#include <cstdint>

#include "base/bits.hpp"
#include "platform/fault_signal.hpp"
#include "debug/page_source.hpp"

namespace tarn::impl::debug {

using platform::fault_verdict;
using platform::os;

namespace {

struct handler_state {
    finding_handler handler = nullptr;
    platform::walk_method walk = platform::walk_method::tables;
    // Of one thread at a time: an access tried again because its page turned out accessible.
    void const* tried_again = nullptr;
    std::uint32_t tried_by = 0;
};

constinit handler_state installed;

bool is_ours(void const* address) noexcept {
    guarded_place const place = find_guarded(address);
    return place.is_ours &&
           (place.record == nullptr || place.record->current() != block_state::live ||
            !is_in_body(*place.record, address));
}

access_kind kind_of(platform::memory_access access) noexcept {
    return access == platform::memory_access::read    ? access_kind::read
           : access == platform::memory_access::write ? access_kind::write
                                                      : access_kind::unknown;
}

char const* operation_of(access_kind access) noexcept {
    return access == access_kind::read ? "read" : access == access_kind::write ? "write" : "access";
}

void tell(platform::memory_fault const& fault, std::uint32_t thread) noexcept {
    std::array<void const*, platform::stack_frames_max> frames;
    finding found;
    found.what = fault::bad_access;
    found.access = kind_of(fault.access);
    found.operation = operation_of(found.access);
    found.ptr = fault.address;
    if (block_record const* const record = find_guarded(fault.address).record) {
        found.block = facts_of(*record);
        found.damage_first = static_cast<std::ptrdiff_t>(base::address_of(fault.address) -
                                                         base::address_of(found.block.user));
        found.damage_last = found.damage_first;
    }
    found.thread = thread;
    std::size_t const count = platform::walk_interrupted(frames, installed.walk, fault.context);
    if (count != 0) {
        // Of a return address the byte before is looked up: so it is the instruction's first.
        frames[0] = static_cast<std::byte const*>(frames[0]) + 1;
    }
    found.stack = {frames.data(), count};
    installed.handler(found);
}

fault_verdict handle(platform::memory_fault const& fault) noexcept {
    std::uint32_t const thread = os::thread_id();
    // Another thread may have opened the page, or used it again, between the fault and now. Then
    // again, the program may have protected it in a way of its own.
    char byte = 0;
    bool const is_first = installed.tried_again != fault.address || installed.tried_by != thread;
    if (os::read_memory(fault.address, &byte, 1) == 1) {
        installed.tried_again = is_first ? fault.address : nullptr;
        installed.tried_by = thread;
        return is_first ? fault_verdict::retry : fault_verdict::pass_on;
    }
    tell(fault, thread);
    return open_page(fault.address) ? fault_verdict::retry : fault_verdict::pass_on;
}

}  // namespace

bool install_fault_handler(finding_handler handler, platform::walk_method walk) noexcept {
    installed.handler = handler;
    installed.walk = walk;
    return platform::install_fault_hook({.is_ours = &is_ours, .handle = &handle});
}

}  // namespace tarn::impl::debug
