// The C interface of tarn/mp.h.

#include "tarn/mp.h"

#include <cerrno>
#include <cstring>

#include "base/errno_keeper.hpp"
#include "base/text.hpp"
#include "heap/process.hpp"
#include "control/report.hpp"
#include "debug/mp_pool.hpp"
#include "malloc/entry.hpp"

namespace control = tarn::impl::control;
namespace debug = tarn::impl::debug;
namespace heap = tarn::impl::heap;
namespace platform = tarn::impl::platform;

namespace {

constexpr std::size_t guard_bytes_max = 4096;

bool is_guard(std::size_t bytes) noexcept {
    return bytes != 0 && bytes <= guard_bytes_max && bytes % 16 == 0;
}

bool is_flag(int value) noexcept { return value == 0 || value == 1; }

/// The first field that makes no sense; null: all do.
char const* wrong_field(tarn_mp_options const& of) noexcept {
    std::size_t constexpr path_bytes_max = debug::mp_destination::path_bytes_max;

    struct {
        char const* name;
        bool is_right;
    } const fields[]{
        {"guard_before", is_guard(of.guard_before)},
        {"guard_after", is_guard(of.guard_after)},
        {"guard_byte", of.guard_byte >= 0 && of.guard_byte <= 0xff},
        {"keyed_guards", is_flag(of.keyed_guards)},
        {"frames", of.frames <= platform::stack_frames_max},
        {"frame_pointers", is_flag(of.frame_pointers)},
        {"slabs", is_flag(of.slabs)},
        {"abort_on_misuse", is_flag(of.abort_on_misuse)},
        {"report_to", of.report_to >= TARN_MP_STDERR && of.report_to <= TARN_MP_CALL},
        {"report_format", of.report_format == TARN_MP_TEXT || of.report_format == TARN_MP_JSON},
        {"report_descriptor", of.report_to != TARN_MP_DESCRIPTOR || of.report_descriptor >= 0},
        {"report_path", of.report_to != TARN_MP_FILE ||
                            (of.report_path != nullptr && of.report_path[0] != '\0' &&
                             ::strnlen(of.report_path, path_bytes_max + 1) <= path_bytes_max)},
        {"report_call", of.report_to != TARN_MP_CALL || of.report_call != nullptr},
    };

    for (auto const& each : fields) {
        if (!each.is_right) {
            return each.name;
        }
    }
    return nullptr;
}

debug::mp_destination destination_of(tarn_mp_options const& from) noexcept {
    debug::mp_destination to;
    to.format =
        from.report_format == TARN_MP_JSON ? debug::mp_format::json : debug::mp_format::text;
    switch (from.report_to) {
        case TARN_MP_DESCRIPTOR:
            to.descriptor = from.report_descriptor;
            break;
        case TARN_MP_FILE:
            to.to = debug::mp_target::file;
            std::memcpy(to.path.data(), from.report_path, std::strlen(from.report_path) + 1);
            break;
        case TARN_MP_CALL:
            to.to = debug::mp_target::call;
            to.call = from.report_call;
            to.context = from.report_context;
            break;
        default:
            break;
    }
    return to;
}

debug::mp_settings settings_of(tarn_mp_options const& from) noexcept {
    debug::mp_settings to;
    to.guard_before_bytes = from.guard_before;
    to.guard_after_bytes = from.guard_after;
    to.guards.byte = static_cast<std::byte>(from.guard_byte);
    to.guards.key = from.keyed_guards != 0 ? platform::os::random_bits() | 1 : 0;
    to.fill_bytes_max = from.fill_bytes;
    to.stack_frames = from.frames;
    to.walk =
        from.frame_pointers != 0 ? platform::walk_method::frames : platform::walk_method::tables;
    to.quarantine_bytes = from.quarantine_bytes;
    to.use_slabs = from.slabs != 0;
    to.aborts = from.abort_on_misuse != 0;
    to.destination = destination_of(from);
    return to;
}

int refuse(char const* field) noexcept {
    tarn::impl::base::text_buffer<96> line;
    line << "mp_init: mp_options::" << field << " makes no sense";
    static_cast<void>(heap::start_process());  // else it is not known where reports go
    control::report_line(line.view());
    return EINVAL;
}

void hand_over(debug::mp_row const& from, tarn_mp_slab_stats& to) noexcept {
    to.block_bytes = from.block_bytes;
    to.total = from.slots;
    to.in_use = from.live;
    to.held = from.held;
    to.free = from.block_bytes == 0 ? 0 : from.slots - from.live - from.held;
    to.peak = from.peak;
    to.chunks = from.chunks;
    to.chunk_bytes = from.chunk_bytes;
    to.allocations = from.allocations;
}

}  // namespace

extern "C" {

int tarn_mp_init(tarn_mp_options const* options) noexcept {
    tarn::impl::base::errno_keeper const keeper;
    if (options == nullptr) {
        return debug::mp.start({});
    }
    if (options->size != sizeof(tarn_mp_options)) {
        return refuse("size");
    }
    if (char const* const field = wrong_field(*options)) {
        return refuse(field);
    }
    return debug::mp.start(settings_of(*options));
}

void* tarn_mp_alloc(std::size_t bytes) noexcept {
    return debug::mp.allocate(
        {.kind = heap::operation_kind::allocate, .bytes = bytes, .caller = TARN_CALLER});
}

void* tarn_mp_calloc(std::size_t count, std::size_t bytes) noexcept {
    std::size_t product = 0;
    if (__builtin_mul_overflow(count, bytes, &product)) [[unlikely]] {
        return debug::mp.refuse("mp_calloc", count, bytes, TARN_CALLER);
    }
    return debug::mp.allocate(
        {.kind = heap::operation_kind::allocate_zeroed, .bytes = product, .caller = TARN_CALLER});
}

void* tarn_mp_realloc(void* block, std::size_t bytes) noexcept {
    if (block == nullptr) {
        return debug::mp.allocate(
            {.kind = heap::operation_kind::allocate, .bytes = bytes, .caller = TARN_CALLER});
    }
    if (bytes == 0) {
        debug::mp.deallocate(
            {.kind = heap::operation_kind::deallocate, .block = block, .caller = TARN_CALLER});
        return nullptr;
    }
    return debug::mp.reallocate({.kind = heap::operation_kind::reallocate,
                                 .block = block,
                                 .bytes = bytes,
                                 .caller = TARN_CALLER});
}

void tarn_mp_free(void* block) noexcept {
    if (block != nullptr) {
        debug::mp.deallocate(
            {.kind = heap::operation_kind::deallocate, .block = block, .caller = TARN_CALLER});
    }
}

std::size_t tarn_mp_usable_size(void* block) noexcept {
    return block == nullptr ? 0 : debug::mp.usable_bytes(block, TARN_CALLER);
}

std::size_t tarn_mp_check_all() noexcept { return debug::mp.check_all(TARN_CALLER); }

void tarn_mp_dump_stats() noexcept { debug::mp.dump_stats(TARN_CALLER); }

std::size_t tarn_mp_dump_leaks() noexcept { return debug::mp.dump_leaks(TARN_CALLER); }

int tarn_mp_get_stats(tarn_mp_stats* out) noexcept {
    if (out == nullptr || out->size != sizeof(tarn_mp_stats)) {
        return EINVAL;
    }
    debug::mp_figures const now = debug::mp.figures(TARN_CALLER);
    out->live_blocks = now.all.live_blocks;
    out->live_bytes = now.all.live_bytes;
    out->held_blocks = now.all.quarantined_blocks;
    out->held_bytes = now.all.quarantined_bytes;
    out->allocations = now.all.allocations;
    static_assert(TARN_MP_SLABS == debug::mp_slab_count);
    for (std::size_t i = 0; i < debug::mp_slab_count; ++i) {
        hand_over(now.rows[i], out->slabs[i]);
    }
    hand_over(now.rows[debug::mp_slab_count], out->larger);
    return 0;
}

int tarn_mp_destroy() noexcept {
    tarn::impl::base::errno_keeper const keeper;
    return debug::mp.end(TARN_CALLER);
}

}  // extern "C"
