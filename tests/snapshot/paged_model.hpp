// snapshot/paged_model.hpp - a block of whole pages in a snapshot_memory, each full of a pattern
// that tells its number and its generation, and what each snapshot must show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tarn/snapshot.hpp"

namespace tarn::test {

/// A generation for each page; 0: never written.
using generations = std::vector<std::uint64_t>;

inline std::uint64_t word_of(std::size_t page, std::uint64_t generation, std::size_t at) {
    return generation == 0 ? 0 : (page * 0x9e3779b97f4a7c15 + generation * 1000003) ^ at;
}

/// The first page of `block` that does not hold its generation; their number if all do.
inline std::size_t first_wrong(std::byte const* block, generations const& wanted) {
    std::size_t const page_bytes = tarn::detail::os_page_bytes();
    std::vector<std::uint64_t> words(page_bytes / sizeof(std::uint64_t));
    for (std::size_t page = 0; page < wanted.size(); ++page) {
        std::memcpy(words.data(), block + page * page_bytes, page_bytes);
        for (std::size_t at = 0; at < words.size(); ++at) {
            if (words[at] != word_of(page, wanted[page], at)) {
                return page;
            }
        }
    }
    return wanted.size();
}

class paged_model {
public:
    paged_model(tarn::snapshot_memory& memory, std::size_t pages)
        : page_bytes_{tarn::detail::os_page_bytes()},
          memory_{memory},
          block_{static_cast<std::byte*>(memory.allocate(pages * page_bytes_, page_bytes_))},
          now_(pages) {}

    paged_model(paged_model const&) = delete;
    paged_model& operator=(paged_model const&) = delete;

    ~paged_model() { memory_.deallocate(block_, now_.size() * page_bytes_, page_bytes_); }

    void write(std::size_t page) {
        now_[page] = ++last_;
        auto* const words = reinterpret_cast<std::uint64_t*>(block_ + page * page_bytes_);
        for (std::size_t at = 0; at < page_bytes_ / sizeof(std::uint64_t); ++at) {
            words[at] = word_of(page, now_[page], at);
        }
    }

    [[nodiscard]] std::size_t size() const { return now_.size(); }

    [[nodiscard]] std::byte const* block() const { return block_; }

    [[nodiscard]] generations const& now() const { return now_; }

    [[nodiscard]] bool is_right() const { return first_wrong(block_, now_) == size(); }

private:
    std::size_t page_bytes_;
    tarn::snapshot_memory& memory_;
    std::byte* block_;
    generations now_;
    std::uint64_t last_ = 0;
};

/// Whether a view shows the block as it was.
inline bool shows(tarn::snapshot_view const& view, paged_model const& model,
                  generations const& then) {
    std::byte const* const block = view.translate(model.block());
    return block != nullptr && first_wrong(block, then) == then.size();
}

}  // namespace tarn::test
