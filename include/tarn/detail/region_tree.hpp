// tarn/detail/region_tree.hpp - the chunks of a root region and of all below it.
//
// Threads    one at a time
// Always     memory is asked for in chunks, each with a header at its start; chunks that no region
//            uses are kept in bins by size, no more than kept_allowed() bytes of them; the body of
//            a chunk in no region's hands is poisoned
// Cost       acquire() and give(): O(1), and a call of the upstream resource where none is kept.
//            With a buffer, carved chunks are searched one by one.
// Source     docs/design/region.md
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <new>

#include <tarn/detail/poison.hpp>

namespace tarn::detail {

inline constexpr std::size_t region_quantum = 16;              // alignment of chunks and their ends
inline constexpr std::size_t region_bytes_max = SIZE_MAX / 8;  // of a request: sums don't overflow

[[nodiscard]] constexpr std::uintptr_t round_up(std::uintptr_t value,
                                                std::uintptr_t alignment) noexcept {
    return (value + (alignment - 1)) & ~(alignment - 1);
}

[[nodiscard]] constexpr std::uintptr_t round_down(std::uintptr_t value,
                                                  std::uintptr_t alignment) noexcept {
    return value & ~(alignment - 1);
}

[[nodiscard]] inline std::uintptr_t address_of(void const* pointer) noexcept {
    return reinterpret_cast<std::uintptr_t>(pointer);
}

[[nodiscard]] inline void* pointer_to(std::uintptr_t address) noexcept {
    return reinterpret_cast<void*>(address);
}

enum class chunk_origin : std::uint8_t {
    upstream,
    buffer,  // the user's buffer: the root's first chunk
    carved,  // the end of the buffer, for children
};

struct alignas(region_quantum) region_chunk {
    region_chunk* next = nullptr;  // the older one of the same region, or another one that is kept
    std::uintptr_t end = 0;        // of what may be handed out; a multiple of the quantum
    std::uintptr_t used = 0;       // up to here, where the region goes on in another chunk
    std::size_t bytes = 0;         // all of it, with this header
    chunk_origin origin = chunk_origin::upstream;

    [[nodiscard]] std::uintptr_t begin() const noexcept {
        return address_of(this) + sizeof(region_chunk);
    }
};

class region_core;

class region_tree {
public:
    region_tree(region_core& root, std::pmr::memory_resource* upstream, std::size_t kept_bytes_max)
        : root_{&root}, upstream_{upstream}, kept_bytes_max_{kept_bytes_max} {}

    region_tree(region_tree const&) = delete;
    region_tree& operator=(region_tree const&) = delete;

    ~region_tree() { give_back_kept(0); }

    /// A chunk of about `preferred` bytes, or of `least` at the least; null where there is none.
    [[nodiscard]] region_chunk* acquire(std::size_t least, std::size_t preferred) noexcept {
        region_chunk* chunk = take_kept(preferred, near_bins);
        if (chunk == nullptr) {
            chunk = carve(preferred);
        }
        if (chunk == nullptr) {
            chunk = ask(preferred);
        }
        if (chunk == nullptr) {
            chunk = take_kept(least, bins_count);
        }
        if (chunk == nullptr) {
            chunk = carve(least);
        }
        if (chunk == nullptr) {
            give_back_kept(0);
            chunk = ask(least);
        }
        return chunk;
    }

    void give(region_chunk* chunk) noexcept {
        chunk->end = address_of(chunk) + chunk->bytes;
        if (watched_) {
            poison(pointer_to(chunk->begin()), chunk->bytes - sizeof(region_chunk));
        }
        if (chunk->origin == chunk_origin::carved) {
            give_carved(chunk);
            return;
        }
        in_use_bytes_ -= chunk->bytes;
        kept_bytes_ += chunk->bytes;
        std::size_t const bin = bin_of(chunk->bytes);
        chunk->next = bins_[bin];
        bins_[bin] = chunk;
        bins_filled_ |= std::uint32_t{1} << bin;
    }

    void region_begins() noexcept { regions_peak_ = std::max(regions_peak_, ++regions_); }

    void region_ends() noexcept {
        --regions_;
        note_release();
    }

    /// A region was reset, rewound or destroyed and has given its chunks back. As many releases as
    /// there were regions at most are a turn; with each turn, the high-water mark decays.
    void note_release() noexcept {
        if (++releases_ >= regions_peak_) {
            high_bytes_ = std::max(in_use_peak_, high_bytes_ - high_bytes_ / decay);
            in_use_peak_ = in_use_bytes_;
            regions_peak_ = regions_;
            releases_ = 0;
        }
        give_back_kept(kept_allowed());
    }

    /// Gives kept chunks upstream, the largest first, until no more than `most` bytes are left.
    void give_back_kept(std::size_t most) noexcept {
        while (kept_bytes_ > most) {
            auto const bin = static_cast<std::size_t>(std::bit_width(bins_filled_)) - 1;
            region_chunk* const chunk = unlink(&bins_[bin], bin);
            unpoison(chunk, chunk->bytes);
            upstream_->deallocate(chunk, chunk->bytes, region_quantum);
        }
    }

    /// The first chunk of the root, with the root in it.
    void adopt(region_chunk& first) noexcept {
        if (first.origin == chunk_origin::buffer) {
            buffer_ = &first;
            buffer_end_ = first.end;
        } else {
            in_use_bytes_ = in_use_peak_ = first.bytes;
        }
    }

    [[nodiscard]] std::uint64_t next_serial() noexcept { return ++serial_; }

    [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

    [[nodiscard]] bool watched() const noexcept { return watched_; }

    [[nodiscard]] std::size_t kept_bytes() const noexcept { return kept_bytes_; }

    region_core* releasing = nullptr;  // the innermost region of which a cleanup runs

private:
    friend class region_core;

    static constexpr std::size_t decay = 8;
    static constexpr std::size_t bins_count = 24;
    static constexpr std::size_t near_bins = 1;  // a chunk below four times what is wanted
    static constexpr std::size_t looks = 4;      // at chunks of about the wanted size
    static constexpr std::size_t smallest_bits = 8;
    static_assert(bins_count <= 32);  // bins_filled_

    [[nodiscard]] static std::size_t bin_of(std::size_t bytes) noexcept {
        auto const bits = static_cast<std::size_t>(std::bit_width(bytes)) - 1;
        return std::min(std::max(bits, smallest_bits) - smallest_bits, bins_count - 1);
    }

    [[nodiscard]] std::size_t kept_allowed() const noexcept {
        std::size_t const high = std::max(high_bytes_, in_use_peak_);
        return std::min(kept_bytes_max_, high - in_use_bytes_);
    }

    [[nodiscard]] static std::uint64_t make_id() noexcept {
        static constinit std::atomic<std::uint64_t> last{0};
        return last.fetch_add(1, std::memory_order_relaxed) + 1;  // only a number of its own
    }

    /// Takes what `*link`, of this bin's list, points to.
    region_chunk* unlink(region_chunk** link, std::size_t bin) noexcept {
        region_chunk* const chunk = *link;
        *link = chunk->next;
        if (bins_[bin] == nullptr) {
            bins_filled_ &= ~(std::uint32_t{1} << bin);
        }
        kept_bytes_ -= chunk->bytes;
        return chunk;
    }

    /// From the bin where such a chunk lies, if it is one of the last few; else from the first of
    /// `count` bins in which all have `bytes`.
    [[nodiscard]] region_chunk* take_kept(std::size_t bytes, std::size_t count) noexcept {
        std::size_t const own = bin_of(bytes);
        region_chunk** link = &bins_[own];
        for (std::size_t i = 0; i < looks && *link != nullptr; ++i, link = &(*link)->next) {
            if ((*link)->bytes >= bytes) {
                region_chunk* const chunk = unlink(link, own);
                use(chunk->bytes);
                return chunk;
            }
        }
        std::uint32_t const found = bins_filled_ >> own >> 1;
        auto const skipped = static_cast<std::size_t>(std::countr_zero(found));
        if (found == 0 || skipped >= count) {
            return nullptr;
        }
        std::size_t const bin = own + 1 + skipped;
        region_chunk* const chunk = unlink(&bins_[bin], bin);
        use(chunk->bytes);
        return chunk;
    }

    [[nodiscard]] region_chunk* ask(std::size_t bytes) noexcept {
        if (upstream_ == nullptr) {
            return nullptr;
        }
        try {
            void* const memory = upstream_->allocate(bytes, region_quantum);
            auto* const chunk = ::new (memory) region_chunk{};
            chunk->bytes = bytes;
            chunk->end = address_of(chunk) + bytes;
            if (watched_) {
                poison(pointer_to(chunk->begin()), bytes - sizeof(region_chunk));
            }
            use(bytes);
            return chunk;
        } catch (std::bad_alloc const&) {
            return nullptr;
        }
    }

    void use(std::size_t bytes) noexcept {
        in_use_bytes_ += bytes;
        in_use_peak_ = std::max(in_use_peak_, in_use_bytes_);
    }

    [[nodiscard]] region_chunk* carve(std::size_t bytes) noexcept;

    void give_carved(region_chunk* chunk) noexcept;

    region_core* root_;
    std::pmr::memory_resource* upstream_;  // null: nothing but the buffer
    region_chunk* buffer_ = nullptr;       // null: there is none
    std::uintptr_t buffer_end_ = 0;        // with all that was carved
    region_chunk* carved_free_ = nullptr;
    std::size_t carved_live_ = 0;

    // Of chunks from upstream alone.
    std::size_t kept_bytes_max_;
    std::size_t kept_bytes_ = 0;
    std::size_t in_use_bytes_ = 0;
    std::size_t in_use_peak_ = 0;  // in this turn
    std::size_t high_bytes_ = 0;

    std::size_t regions_ = 1;
    std::size_t regions_peak_ = 1;  // in this turn
    std::size_t releases_ = 0;      // in this turn
    std::uint64_t id_ = make_id();
    std::uint64_t serial_ = 0;
    bool watched_ = memory_is_watched();
    std::uint32_t bins_filled_ = 0;
    std::array<region_chunk*, bins_count> bins_{};
};

}  // namespace tarn::detail
