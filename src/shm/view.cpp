// The functions of tarn/shm.h that look.
#include <bit>
#include <cstring>

#include "base/text.hpp"

#include "tarn/shm.h"

#include "shm/client.hpp"

namespace tarn::impl::shm {

namespace {

client& seen_by(tarn_shm* handle) noexcept { return *reinterpret_cast<client*>(handle); }

/// What follows from the words of one chunk, as lines.
class auditor {
public:
    auditor(client& of, void (*receive)(void* context, char const* text), void* context) noexcept
        : of_{&of}, receive_{receive}, context_{context} {
        for (std::uint32_t number = 0; number < clients_most; ++number) {
            state_[number] = of.state_of(number);
        }
    }

    void look_at(std::uint32_t pool, std::uint32_t number) noexcept {
        auto const in = of_->chunks_of(pool);
        std::uint64_t const word = in.word_of(number);
        if (holders_of(word) == 0 && !in.has_hint(number)) {
            tell(pool, number, "is free, and no hint says so");
        }
        for (std::uint64_t rest = holders_of(word); rest != 0; rest &= rest - 1) {
            if (state_[static_cast<unsigned>(std::countr_zero(rest))] != 1) {
                tell(pool, number, "is held by a client that is gone");
            }
        }
    }

    [[nodiscard]] int faults() const noexcept { return faults_; }

private:
    void tell(std::uint32_t pool, std::uint32_t number, char const* what) noexcept {
        std::array<char, 128> line{};
        base::text_sink text{line.data(), line.size() - 1};
        text << "chunk " << pool << '/' << number << ' ' << what;
        ++faults_;
        if (receive_ != nullptr) {
            receive_(context_, line.data());
        }
    }

    client* of_;
    void (*receive_)(void* context, char const* text);
    void* context_;
    int faults_ = 0;
    std::array<int, clients_most> state_{};
};

}  // namespace

}  // namespace tarn::impl::shm

using namespace tarn::impl::shm;  // NOLINT(google-build-using-namespace): only C functions follow

extern "C" {

int tarn_shm_info_get(tarn_shm* handle, tarn_shm_info* info) TARN_NOEXCEPT {
    if (info->size != sizeof *info) {
        return TARN_SHM_INVALID;
    }
    client& of = seen_by(handle);
    if (of.is_forked()) {
        return TARN_SHM_FORKED;
    }
    header const& head = of.head();
    std::size_t const size = info->size;
    *info = {};
    info->size = size;
    std::memcpy(info->name, head.name.data(), sizeof info->name);
    info->id = head.id;
    info->pool_count = head.pool_count;
    info->client = static_cast<std::uint32_t>(of.number());
    info->control_bytes = head.payload_at;
    info->base = of.base();
    info->mapped_bytes = head.file_bytes;
    info->recoveries = of.words().recoveries.load(std::memory_order_relaxed);
    for (std::uint32_t pool = 0; pool < head.pool_count; ++pool) {
        info->payload_bytes += of.row(pool).stride * of.row(pool).count_most;
        info->ready_bytes += of.row(pool).stride * of.ready(pool);
    }
    for (std::uint32_t number = 0; number < clients_most; ++number) {
        info->clients += of.state_of(number) == 1 ? 1U : 0U;
    }
    return TARN_SHM_OK;
}

int tarn_shm_pool_info_get(tarn_shm* handle, uint32_t pool,
                           tarn_shm_pool_info* info) TARN_NOEXCEPT {
    client& of = seen_by(handle);
    if (of.is_forked()) {
        return TARN_SHM_FORKED;
    }
    if (pool >= of.head().pool_count) {
        return TARN_SHM_INVALID;
    }
    pool_row const& row = of.row(pool);
    auto const in = of.chunks_of(pool);
    *info = {.chunk_bytes = row.chunk_bytes,
             .stride_bytes = row.stride,
             .alignment = row.alignment,
             .user_header_bytes = row.user_header_bytes,
             .ready = in.count(),
             .count_most = row.count_most,
             .free = 0};
    for (std::uint32_t number = 0; number < in.count(); ++number) {
        info->free += holders_of(in.word_of(number)) == 0 ? 1U : 0U;
    }
    return TARN_SHM_OK;
}

int tarn_shm_client_info_get(tarn_shm* handle, uint32_t number,
                             tarn_shm_client_info* info) TARN_NOEXCEPT {
    client& of = seen_by(handle);
    if (of.is_forked()) {
        return TARN_SHM_FORKED;
    }
    if (number >= clients_most) {
        return TARN_SHM_INVALID;
    }
    client_slot const& slot = of.slot(number);
    *info = {};
    info->state = of.state_of(number);
    info->generation = static_cast<std::uint32_t>(slot.state.load(std::memory_order_relaxed) >> 1);
    info->process_id = static_cast<std::int32_t>(slot.process_id.load(std::memory_order_relaxed));
    info->user_id = slot.user_id.load(std::memory_order_relaxed);
    info->namespace_id = slot.namespace_id.load(std::memory_order_relaxed);
    info->started = slot.started.load(std::memory_order_relaxed);
    info->allocations = slot.allocations.load(std::memory_order_relaxed);
    for (std::size_t i = 0; i < slot.label.size(); ++i) {
        std::uint64_t const part = slot.label[i].load(std::memory_order_relaxed);
        std::memcpy(info->label + i * sizeof part, &part, sizeof part);
    }
    info->label[TARN_SHM_LABEL_MAX] = '\0';
    for (std::uint32_t pool = 0; pool < of.head().pool_count; ++pool) {
        auto const in = of.chunks_of(pool);
        std::uint64_t held = 0;
        for (std::uint32_t chunk = 0; chunk < in.count(); ++chunk) {
            held += (in.word_of(chunk) & bit_of(static_cast<client_number>(number))) != 0 ? 1U : 0U;
        }
        info->held += held;
        info->held_bytes += held * of.row(pool).stride;
    }
    return TARN_SHM_OK;
}

int tarn_shm_chunk_info_get(tarn_shm* handle, uint32_t pool, uint32_t number,
                            tarn_shm_chunk_info* info) TARN_NOEXCEPT {
    client& of = seen_by(handle);
    if (of.is_forked()) {
        return TARN_SHM_FORKED;
    }
    if (pool >= of.head().pool_count || number >= of.ready(pool)) {
        return TARN_SHM_INVALID;
    }
    auto const in = of.chunks_of(pool);
    std::uint64_t const word = in.word_of(number);
    chunk_header const& written = of.header_of(pool, number);
    *info = {.holders = holders_of(word),
             .generation = static_cast<std::uint32_t>(generation_of(word)),
             .hint = in.has_hint(number) ? 1U : 0U,
             .sequence = written.sequence.load(std::memory_order_relaxed),
             .payload_bytes = written.payload_bytes.load(std::memory_order_relaxed),
             .origin = written.origin.load(std::memory_order_relaxed)};
    return TARN_SHM_OK;
}

int tarn_shm_audit(tarn_shm* handle, void (*receive)(void* context, char const* text),
                   void* context) TARN_NOEXCEPT {
    client& of = seen_by(handle);
    if (of.is_forked()) {
        return -TARN_SHM_FORKED;
    }
    auditor looking{of, receive, context};
    for (std::uint32_t pool = 0; pool < of.head().pool_count; ++pool) {
        std::uint32_t const count = of.ready(pool);
        for (std::uint32_t number = 0; number < count; ++number) {
            looking.look_at(pool, number);
        }
    }
    return looking.faults();
}

}  // extern "C"
