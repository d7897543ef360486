// tarn/detail/snapshot_list.hpp - what a snapshot's file says of it, and how that is read.
//
// The position of the snapshot's descriptor is that of a page with a head and pieces: the pages of
// the region that do not lie at home. So one descriptor leads to all, in any process.
//
// Threads    one at a time
// Always     what has been read is checked: nothing leads outside of the file or the region
// Errors     std::system_error: the descriptor is closed, or leads to no snapshot
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <tarn/detail/snapshot_system.hpp>
#include <tarn/detail/snapshot_versions.hpp>

namespace tarn::detail {

/// Where the pages of a snapshot lie that are not at home: `count` of them, side by side.
struct snapshot_piece {
    page_number page;
    page_number place;
    page_number count;
};

/// A page of the file begins with this, then the pieces; it may go on in another.
struct snapshot_head {
    static constexpr std::uint64_t magic_number = 0x3130706e736e7274;  // "trnsnp01"

    std::uint64_t magic = magic_number;
    std::uint64_t number = 0;
    std::uint64_t base = 0;
    std::uint64_t root = 0;
    std::uint32_t page_bytes = 0;
    page_number pages = 0;     // of the region
    page_number place = 0;     // of this head
    page_number next = 0;      // the place of the next head; 0: none
    std::uint32_t pieces = 0;  // in this page

    [[nodiscard]] static std::size_t pieces_max(std::size_t page_bytes) noexcept {
        return (page_bytes - sizeof(snapshot_head)) / sizeof(snapshot_piece);
    }
};

/// The heads and pieces of a snapshot as they stand in its file, checked: nothing leads outside.
class snapshot_list {
public:
    explicit snapshot_list(int fd) {
        off_t const position = ::lseek(fd, 0, SEEK_CUR);

        struct stat status {};

        if (position < 0 || ::fstat(fd, &status) != 0) {
            refuse_snapshot("the descriptor is closed, or cannot be mapped");
        }
        std::size_t const page_bytes = os_page_bytes();
        auto const places = static_cast<std::uint64_t>(status.st_size) / page_bytes;
        std::vector<std::byte> page(page_bytes);
        auto place = static_cast<std::uint64_t>(position) / page_bytes;
        for (bool first = true; first || place != 0; first = false) {
            read(fd, place, page, first);
            auto const* const raw = page.data() + sizeof(snapshot_head);
            std::size_t const before = pieces_.size();
            pieces_.resize(before + last_.pieces);
            if (last_.pieces != 0) {  // null is no argument for memcpy
                std::memcpy(pieces_.data() + before, raw, last_.pieces * sizeof(snapshot_piece));
            }
            if (pieces_.size() > head_.pages) {
                refuse();
            }
            place = last_.next;
        }
        bool const is_inside =
            std::all_of(pieces_.begin(), pieces_.end(), [this, places](snapshot_piece const& each) {
                return std::uint64_t{each.page} + each.count <= head_.pages &&
                       std::uint64_t{each.place} + each.count <= places;
            });
        if (!is_inside || head_.pages > places) {
            refuse();
        }
    }

    [[nodiscard]] snapshot_head const& head() const noexcept { return head_; }

    [[nodiscard]] std::span<snapshot_piece const> pieces() const noexcept { return pieces_; }

private:
    [[noreturn]] static void refuse() {
        refuse_snapshot("the descriptor leads to no snapshot; it must be passed on itself", EINVAL);
    }

    void read(int fd, std::uint64_t place, std::vector<std::byte>& page, bool is_first) {
        if (::pread(fd, page.data(), page.size(), static_cast<off_t>(place * page.size())) !=
            static_cast<ssize_t>(page.size())) {
            refuse();
        }
        std::memcpy(&last_, page.data(), sizeof last_);
        if (is_first) {
            head_ = last_;
        }
        if (last_.magic != snapshot_head::magic_number || last_.place != place ||
            last_.page_bytes != page.size() || last_.number != head_.number ||
            last_.pieces > snapshot_head::pieces_max(page.size())) {
            refuse();
        }
    }

    snapshot_head head_;
    snapshot_head last_;
    std::vector<snapshot_piece> pieces_;
};

}  // namespace tarn::detail
