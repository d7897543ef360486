#include "shm/geometry.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "tarn/shm/hint_bitmap.hpp"

#include "platform/shared_file.hpp"
#include "shm/domain.hpp"

namespace tarn::impl::shm {

namespace {

constexpr std::uint32_t alignment_most = 2U << 20;
constexpr std::uint32_t user_header_most = 4096;
constexpr std::uint64_t chunk_bytes_most = std::uint64_t{1} << 40;

constexpr std::uint64_t align_up(std::uint64_t number, std::uint64_t alignment) noexcept {
    return (number + alignment - 1) / alignment * alignment;
}

/// The smaller first; of one size, the less aligned.
bool comes_before(pool_row const& left, pool_row const& right) noexcept {
    return left.chunk_bytes != right.chunk_bytes ? left.chunk_bytes < right.chunk_bytes
                                                 : left.alignment < right.alignment;
}

int take_pool(tarn_shm_pool const& asked, std::size_t number, pool_row& row,
              failure_note& note) noexcept {
    std::uint64_t const most = asked.count_most == 0 ? asked.count : asked.count_most;
    std::uint32_t const alignment = asked.alignment == 0 ? line_bytes : asked.alignment;
    auto const wrong = [&](char const* what) noexcept {
        return note.set(TARN_SHM_INVALID, "pools[", static_cast<std::uint64_t>(number), "].", what);
    };
    if (asked.chunk_bytes == 0 || asked.chunk_bytes > chunk_bytes_most) {
        return wrong("chunk_bytes is not 1 to 2^40");
    }
    if (asked.count == 0) {
        return wrong("count is 0");
    }
    if (most < asked.count || most > chunks_most) {
        return wrong("count_most is less than count, or above 2^28");
    }
    if (!std::has_single_bit(alignment) || alignment > alignment_most) {
        return wrong("alignment is no power of two up to 2 MiB");
    }
    if (asked.user_header_bytes > user_header_most ||
        asked.user_header_bytes >= asked.chunk_bytes) {
        return wrong("user_header_bytes is above 4096, or leaves no payload in chunk_bytes");
    }
    row = {};
    row.chunk_bytes = asked.chunk_bytes;
    row.count = asked.count;
    row.count_most = static_cast<std::uint32_t>(most);
    row.alignment = std::max<std::uint32_t>(alignment, line_bytes);
    row.user_header_bytes = asked.user_header_bytes;
    return TARN_SHM_OK;
}

/// Where everything lies. False: it is too long.
bool lay_out(header& planned) noexcept {
    planned.shared_at = planned.page_bytes;
    planned.slots_at = planned.shared_at + align_up(sizeof(shared_words), sizeof(client_slot));
    std::uint64_t at = planned.slots_at + std::uint64_t{clients_most} * sizeof(client_slot);
    for (std::size_t i = 0; i < planned.pool_count; ++i) {
        pool_row& row = planned.pools[i];
        row.truths_at = at;
        at = align_up(at + row.count_most * sizeof(chunk_word<atomics>), line_bytes);
        row.hints_at = at;
        at = align_up(at + tarn::shm::hint_bitmap::words_for(row.count_most) * 8, line_bytes);
    }
    planned.payload_at = align_up(at, planned.page_bytes);
    at = planned.payload_at;
    for (std::size_t i = 0; i < planned.pool_count; ++i) {
        pool_row& row = planned.pools[i];
        row.lead_bytes = static_cast<std::uint32_t>(
            align_up(sizeof(chunk_header) + row.user_header_bytes, row.alignment));
        row.stride =
            align_up(row.lead_bytes + row.chunk_bytes - row.user_header_bytes, row.alignment);
        row.payloads_at = align_up(at, std::max<std::uint64_t>(row.alignment, planned.page_bytes));
        if (row.stride > segment_bytes_most / row.count_most) {
            return false;
        }
        at = align_up(row.payloads_at + row.stride * row.count_most, planned.page_bytes);
        if (at > segment_bytes_most) {
            return false;
        }
    }
    planned.file_bytes = at;
    return true;
}

bool is_sound(header const& read) noexcept {
    if (read.pool_count == 0 || read.pool_count > pools_most || read.id == 0 ||
        read.id >= ids_end || read.name.back() != '\0' || !std::has_single_bit(read.page_bytes) ||
        read.page_bytes < sizeof(header)) {
        return false;
    }
    if (read.name[0] != '\0' && !is_name(read.name.data())) {
        return false;
    }
    header again = read;
    failure_note nobody{nullptr};
    for (std::size_t i = 0; i < read.pool_count; ++i) {
        pool_row const& row = read.pools[i];
        tarn_shm_pool const asked{.chunk_bytes = row.chunk_bytes,
                                  .count = row.count,
                                  .count_most = row.count_most,
                                  .alignment = row.alignment,
                                  .user_header_bytes = row.user_header_bytes};
        if (take_pool(asked, i, again.pools[i], nobody) != TARN_SHM_OK) {
            return false;
        }
    }
    return lay_out(again) && std::memcmp(&again, &read, sizeof read) == 0;
}

}  // namespace

std::uint32_t checksum_of(header const& made) noexcept {
    constexpr std::uint32_t polynomial = 0x82f63b78;
    auto const* const bytes = reinterpret_cast<unsigned char const*>(&made);
    std::uint32_t sum = ~0U;
    for (std::size_t i = 0; i < offsetof(header, checksum); ++i) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) {
            sum = (sum >> 1) ^ ((sum & 1) != 0 ? polynomial : 0);
        }
    }
    return ~sum;
}

int plan(tarn_shm_config const& config, std::size_t page_bytes, header& planned,
         failure_note& note) noexcept {
    if (config.size != sizeof config) {
        return note.set(TARN_SHM_INVALID, "config.size is not sizeof(tarn_shm_config)");
    }
    if (config.pools == nullptr || config.pool_count == 0 || config.pool_count > pools_most) {
        return note.set(TARN_SHM_INVALID, "config.pool_count is not 1 to 16");
    }
    if ((config.mode & ~0660U) != 0 || (config.mode & 0600U) != 0600U) {
        return note.set(TARN_SHM_INVALID, "config.mode is neither 0600, 0640 nor 0660");
    }
    planned = {};
    planned.magic = magic;
    planned.version = layout_version;
    planned.byte_order = byte_order;
    planned.layout_hash = layout_hash();
    planned.page_bytes = page_bytes;
    planned.pool_count = static_cast<std::uint32_t>(config.pool_count);
    for (std::size_t i = 0; i < config.pool_count; ++i) {
        if (int const error = take_pool(config.pools[i], i, planned.pools[i], note); error != 0) {
            return error;
        }
    }
    auto* const end = planned.pools.begin() + planned.pool_count;
    std::sort(planned.pools.begin(), end, comes_before);
    auto const* const twice = std::adjacent_find(
        planned.pools.begin(), end, [](pool_row const& left, pool_row const& right) noexcept {
            return !comes_before(left, right);
        });
    if (twice != end) {
        return note.set(TARN_SHM_INVALID, "config.pools: two have chunk_bytes ", twice->chunk_bytes,
                        " and one alignment");
    }
    if (!lay_out(planned)) {
        return note.set(TARN_SHM_INVALID, "config.pools: more than 2^48 bytes in all");
    }
    return TARN_SHM_OK;
}

int check(header const& read, std::uint64_t file_bytes, std::size_t page_bytes, char const* what,
          failure_note& note) noexcept {
    if (read.magic != magic) {
        return note.set(TARN_SHM_INCOMPATIBLE, what, ": no segment of Tarn");
    }
    if (read.byte_order != byte_order) {
        return note.set(TARN_SHM_INCOMPATIBLE, what, ": of a machine with another byte order");
    }
    if (read.version != layout_version) {
        return note.set(TARN_SHM_INCOMPATIBLE, what, ": layout version ", read.version,
                        ", this library has ", layout_version);
    }
    if (read.layout_hash != layout_hash()) {
        return note.set(TARN_SHM_INCOMPATIBLE, what, ": its layout has another hash");
    }
    if (read.checksum != checksum_of(read)) {
        return note.set(TARN_SHM_DAMAGED, what, ": the header's checksum is wrong");
    }
    unsigned char boot[16];
    platform::read_boot_id(boot);
    if (std::memcmp(boot, read.boot_id.data(), sizeof boot) != 0) {
        return note.set(TARN_SHM_INCOMPATIBLE, what, ": of before the machine's last start");
    }
    if (read.page_bytes != page_bytes) {
        return note.set(TARN_SHM_INCOMPATIBLE, what, ": its OS pages have ", read.page_bytes,
                        " bytes");
    }
    if (!is_sound(read)) {
        return note.set(TARN_SHM_DAMAGED, what, ": the header contradicts itself");
    }
    if (read.file_bytes != file_bytes) {
        return note.set(TARN_SHM_DAMAGED, what, ": the file has ", file_bytes, " bytes, not ",
                        read.file_bytes);
    }
    return TARN_SHM_OK;
}

}  // namespace tarn::impl::shm
