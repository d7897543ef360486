#include "debug/names.hpp"

#include <array>

namespace tarn::impl::debug {

namespace {

constexpr std::size_t thread_name_bytes_max = 64;  // the system's have 15 at most

}  // namespace

std::string_view name_of(fault what) noexcept {
    switch (what) {
        case fault::overflow:
            return "heap-buffer-overflow";
        case fault::underflow:
            return "heap-buffer-underflow";
        case fault::use_after_free:
            return "heap-use-after-free";
        case fault::double_free:
            return "double-free";
        case fault::interior_free:
            return "interior-free";
        case fault::foreign_free:
            return "foreign-free";
        case fault::mismatched_free:
            return "alloc-dealloc-mismatch";
        case fault::wrong_size:
            return "size-mismatch";
        case fault::wrong_alignment:
            return "alignment-mismatch";
        case fault::bad_access:
            return "bad-access";
        case fault::lost_record:
            return "damaged-record";
    }
    return "unknown-fault";
}

std::string_view name_of(heap::family by, heap_number owner) noexcept {
    if (owner == heap_number::mp && by == heap::family::malloc) {
        return "mp_alloc";
    }
    switch (by) {
        case heap::family::malloc:
            return "malloc";
        case heap::family::new_one:
            return "operator new";
        case heap::family::new_array:
            return "operator new[]";
    }
    return "an unknown allocator";
}

std::string_view name_of(block_state state) noexcept {
    switch (state) {
        case block_state::unused:
            return "unused";
        case block_state::live:
            return "live";
        case block_state::taken:
            return "taken";
        case block_state::freed:
            return "freed";
    }
    return "unknown";
}

std::string_view name_of(heap_number owner) noexcept {
    switch (owner) {
        case heap_number::none:
            return "none";
        case heap_number::program:
            return "program";
        case heap_number::mp:
            return "mp";
        case heap_number::sampled:
            return "sampled";
    }
    return "unknown";
}

std::string_view name_of(access_kind access) noexcept {
    switch (access) {
        case access_kind::unknown:
            return "access";
        case access_kind::read:
            return "read";
        case access_kind::write:
            return "write";
    }
    return "access";
}

void write_bytes(std::uint64_t bytes, base::text_sink& to) noexcept {
    to << bytes << std::string_view{bytes == 1 ? " byte" : " bytes"};
}

void write_plain(std::string_view text, base::text_sink& to) noexcept {
    for (char const character : text) {
        auto const code = static_cast<unsigned char>(character);
        to << (code < ' ' || code == 0x7f ? '?' : character);
    }
}

void write_thread(std::uint32_t thread, lookup const& by, base::text_sink& to) noexcept {
    if (thread == 0) {
        to << "an unknown thread";
        return;
    }
    to << "thread " << thread;
    std::array<char, thread_name_bytes_max> room;
    if (std::string_view const name = by.thread_name(thread, room); !name.empty()) {
        to << " (";
        write_plain(name, to);
        to << ')';
    }
}

void write_thread(std::uint32_t thread, lookup const& by, json_writer& to) noexcept {
    if (thread == 0) {
        to.null();
        return;
    }
    std::array<char, thread_name_bytes_max> room;
    to.open('{');
    to.key("id");
    to.number(thread);
    to.key("name");
    to.text_or_null(by.thread_name(thread, room));
    to.close('}');
}

}  // namespace tarn::impl::debug
