// tarn/detail/region_core.hpp - a region's state, which lies in its own first chunk and never
// moves.
//
// Threads    one at a time for a root and all below it
// Invariant  blocks are cut from [cursor_, limit_). Where a tool watches memory, limit_ == cursor_:
//            every request then takes the slow path, which poisons what lies between blocks.
//            limit_ is a multiple of the quantum, so aligning cursor_ to it cannot pass limit_.
// Cost       take(): align, compare, add. Release: O(cleanups + children + chunks).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory_resource>
#include <new>
#include <span>
#include <stdexcept>
#include <string>

#include <tarn/detail/poison.hpp>
#include <tarn/detail/region_cleanup.hpp>
#include <tarn/detail/region_tree.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

/// What a region is made with; children without options of their own take their parent's.
struct region_options {
    std::size_t initial_bytes = 4096;                    // of the first chunk
    std::size_t chunk_bytes_max = std::size_t{1} << 20;  // chunks double up to this
    std::size_t kept_bytes_max = std::size_t{1} << 20;   // of free chunks; a root's counts
    std::size_t reserve_bytes = 0;  // for error_text(), allocate_from_reserve()
    char const* name = "region";    // for messages; must outlive the region
};

/// In bytes where nothing else is said. Of one region, without its children.
struct region_statistics {
    std::size_t used_bytes = 0;       // by blocks, their alignment, and nodes for cleanups
    std::size_t peak_used_bytes = 0;  // since the region began
    std::size_t held_bytes = 0;       // all chunks of the region
    std::size_t kept_bytes = 0;       // free chunks that the region shares with parent and children
    std::size_t chunks = 0;           // a number
    std::size_t cleanups = 0;         // a number: functions and destructors that wait
    std::size_t children = 0;         // a number
};

namespace detail {

struct mark_node final : cleanup_node {
    mark_node* older_mark = nullptr;
    std::uint64_t serial = 0;
    std::uintptr_t cursor = 0;
    region_chunk* chunk = nullptr;
    region_chunk* large = nullptr;

    static void nothing(cleanup_node& /*node*/, cleanup_step /*step*/) noexcept {}
};

class region_core final : public std::pmr::memory_resource, private cleanup_node {
public:
    /// No region: has no room, and says what is wrong where more is asked of it than room.
    constexpr region_core() noexcept = default;

    /// One of `upstream` and `buffer` may be null.
    [[nodiscard]] static region_core* make_root(std::pmr::memory_resource* upstream,
                                                std::span<std::byte> const* buffer,
                                                region_options const& options);

    [[nodiscard]] region_core* make_child(region_options const& options);

    [[nodiscard]] void* take(std::size_t bytes, std::size_t alignment) {
        void* block = nullptr;
        return bump(bytes, alignment, block) ? block : take_slow(bytes, alignment);
    }

    [[nodiscard]] void* try_take(std::size_t bytes, std::size_t alignment) noexcept {
        void* block = nullptr;
        return bump(bytes, alignment, block) ? block : try_take_slow(bytes, alignment);
    }

    /// From the reserve; null where that is used up. `bytes` > 0.
    [[nodiscard]] void* take_reserve(std::size_t bytes, std::size_t alignment) noexcept {
        std::uintptr_t const start = round_up(reserve_cursor_, alignment);
        if (!std::has_single_bit(alignment) || start < reserve_cursor_ || start > reserve_end_ ||
            bytes > reserve_end_ - start) {
            return nullptr;
        }
        reserve_cursor_ = start + bytes;
        if (watched()) {
            unpoison(pointer_to(start), bytes);
        }
        return pointer_to(start);
    }

    [[nodiscard]] std::size_t reserve_left() const noexcept {
        return reserve_end_ - reserve_cursor_;
    }

    void add(cleanup_node& node, cleanup_node::action what) noexcept {
        node.act = what;
        link(node);
        ++cleanups_;
    }

    /// The node with this address, action and serial; null when it is gone.
    [[nodiscard]] hook_node* find(void const* address, cleanup_node::action what,
                                  std::uint64_t serial) const noexcept;

    /// Takes a node out and lets it do `step`.
    void finish_node(cleanup_node& node, cleanup_step step) noexcept;

    void run_exec() noexcept;

    [[nodiscard]] mark_node* mark();

    [[nodiscard]] mark_node* find_mark(std::uint64_t tree, std::uint64_t serial) const noexcept;

    void rewind(mark_node& mark) noexcept;

    void reset() noexcept;

    /// Ends the region: cleanups, then memory.
    void destroy() noexcept;

    [[nodiscard]] bool owns(void const* pointer) const noexcept;

    [[nodiscard]] region_statistics statistics() const noexcept;

    [[nodiscard]] bool exists() const noexcept { return tree_ != nullptr; }

    /// A cleanup of this region runs.
    [[nodiscard]] bool is_releasing() const noexcept { return releasing_; }

    /// A cleanup of this region or of one below it runs.
    [[nodiscard]] bool is_releasing_below() const noexcept;

    [[noreturn]] void abort_with(char const* what) const noexcept {
        static_cast<void>(std::fprintf(stderr, "tarn: region '%s' %s\n", options_.name, what));
        std::abort();
    }

    [[noreturn]] void refuse(char const* what) const {
        throw std::logic_error{std::string{"tarn::region '"} + options_.name + "': " + what};
    }

    /// std::logic_error unless this is a region.
    void expect_region() const {
        if (!exists()) {
            refuse("used after it was moved from, or released with its parent");
        }
    }

    /// std::logic_error where no cleanup can be added.
    void expect_open() const {
        expect_region();
        if (releasing_) {
            refuse("a cleanup, child or mark added while its cleanups run");
        }
    }

    [[nodiscard]] region_tree& tree() noexcept { return *tree_; }

    [[nodiscard]] region_options const& options() const noexcept { return options_; }

    static constexpr std::size_t root_bytes_min = 1024;  // without a reserve

    region_core** handle = nullptr;  // what must learn that the region ended with its parent

private:
    friend class region_tree;

    static constexpr std::size_t first_room_bytes = 256;  // in a first chunk, at the least
    static constexpr std::size_t chunk_bytes_min = 1024;
    static constexpr std::size_t large_part = 4;  // what a chunk of its own is for: more than a
                                                  // fourth of the largest chunk
    static constexpr std::size_t red_zone_bytes = 16;

    region_core(region_chunk& first, std::uintptr_t begin, region_options const& options) noexcept;

    [[nodiscard]] bool bump(std::size_t bytes, std::size_t alignment, void*& block) noexcept {
        std::uintptr_t const start = (cursor_ + (alignment - 1)) & ~(alignment - 1);
        std::size_t const size = bytes + static_cast<std::size_t>(bytes == 0);
        if (alignment - 1 >= region_quantum || !std::has_single_bit(alignment) ||
            size > limit_ - start) [[unlikely]] {
            return false;
        }
        cursor_ = start + size;
        block = pointer_to(start);
        return true;
    }

    [[nodiscard]] void* take_slow(std::size_t bytes, std::size_t alignment);
    [[nodiscard]] void* try_take_slow(std::size_t bytes, std::size_t alignment) noexcept;
    [[nodiscard]] void* take_here(std::size_t size, std::size_t alignment) noexcept;
    [[nodiscard]] void* take_large(std::size_t size, std::size_t alignment,
                                   std::size_t chunk_bytes) noexcept;

    void enter(region_chunk& chunk) noexcept;
    void leave_chunk() noexcept;
    void give_large() noexcept;
    void give_after(std::uintptr_t cursor, region_chunk const* chunk,
                    region_chunk const* large) noexcept;

    void link(cleanup_node& node) noexcept {
        node.older = newest_;
        node.newer = nullptr;
        if (newest_ != nullptr) {
            newest_->newer = &node;
        }
        newest_ = &node;
    }

    void unlink(cleanup_node& node) noexcept {
        (node.newer != nullptr ? node.newer->older : newest_) = node.older;
        if (node.older != nullptr) {
            node.older->newer = node.newer;
        }
    }

    void begin_release() noexcept {
        releasing_ = true;
        releasing_outside_ = tree_->releasing;
        tree_->releasing = this;
    }

    void end_release() noexcept {
        tree_->releasing = releasing_outside_;
        releasing_ = false;
    }

    void run_cleanups(cleanup_node const* stop) noexcept;
    void end_child() noexcept;

    void open_window() noexcept { limit_ = watched() ? cursor_ : chunk_->end; }

    [[nodiscard]] bool watched() const noexcept { return tree_->watched(); }

    [[nodiscard]] std::uintptr_t after(std::uintptr_t block_end) const noexcept {
        return watched() ? round_up(block_end, region_quantum) + red_zone_bytes : block_end;
    }

    [[nodiscard]] std::uintptr_t begin_of(region_chunk const& chunk) const noexcept {
        return chunk.next == nullptr ? first_begin_ : chunk.begin();
    }

    [[nodiscard]] std::size_t used_bytes() const noexcept {
        return earlier_bytes_ + (cursor_ - base_) + large_bytes_;
    }

    void note_peak() noexcept { peak_bytes_ = std::max(peak_bytes_, used_bytes()); }

    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        return take(bytes, alignment);
    }

    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override;

    [[nodiscard]] bool do_is_equal(std::pmr::memory_resource const& other) const noexcept override {
        return this == &other;
    }

    std::uintptr_t cursor_ = 0;
    std::uintptr_t limit_ = 0;
    std::uintptr_t base_ = 0;  // where blocks begin in chunk_
    region_chunk* chunk_ = nullptr;
    region_chunk* large_ = nullptr;  // chunks of one block each, newest first
    cleanup_node* newest_ = nullptr;
    mark_node* newest_mark_ = nullptr;
    region_tree* tree_ = nullptr;  // null: no region
    region_core* parent_ = nullptr;
    region_core* releasing_outside_ = nullptr;
    std::uintptr_t first_begin_ = 0;
    std::uintptr_t reserve_cursor_ = 0;
    std::uintptr_t reserve_end_ = 0;
    std::size_t earlier_bytes_ = 0;  // in the chunks before chunk_
    std::size_t large_bytes_ = 0;
    std::size_t peak_bytes_ = 0;
    std::size_t cleanups_ = 0;
    std::size_t children_ = 0;
    bool releasing_ = false;
    region_options options_{};
};

inline constinit immortal<region_core> no_region;

inline region_core::region_core(region_chunk& first, std::uintptr_t begin,
                                region_options const& options) noexcept
    : cursor_{begin}, base_{begin}, chunk_{&first}, first_begin_{begin}, options_{options} {
    std::uintptr_t const end = first.end;
    first.end -= round_up(options.reserve_bytes, region_quantum);
    reserve_cursor_ = first.end;
    reserve_end_ = end;
    options_.chunk_bytes_max =
        std::bit_floor(std::clamp(options.chunk_bytes_max, chunk_bytes_min, region_bytes_max));
}

inline region_core* region_core::make_root(std::pmr::memory_resource* upstream,
                                           std::span<std::byte> const* buffer,
                                           region_options const& options) {
    constexpr std::size_t state_bytes =
        round_up(sizeof(region_chunk) + sizeof(region_core) + sizeof(region_tree), region_quantum);
    static_assert(root_bytes_min >= state_bytes + first_room_bytes);
    if (options.initial_bytes > region_bytes_max || options.reserve_bytes > region_bytes_max) {
        throw std::bad_alloc{};
    }
    std::size_t const least = root_bytes_min + round_up(options.reserve_bytes, region_quantum);
    std::size_t bytes = 0;
    void* memory = nullptr;
    chunk_origin origin{};
    if (buffer != nullptr) {
        std::uintptr_t const start = round_up(address_of(buffer->data()), region_quantum);
        std::uintptr_t const end =
            round_down(address_of(buffer->data()) + buffer->size(), region_quantum);
        if (end < start || end - start < least) {
            throw std::invalid_argument{"tarn::region: the buffer is too small"};
        }
        bytes = end - start;
        memory = pointer_to(start);
        origin = chunk_origin::buffer;
    } else {
        bytes = std::max(round_up(options.initial_bytes, region_quantum), least);
        memory = upstream->allocate(bytes, region_quantum);
        origin = chunk_origin::upstream;
    }

    auto* const first = ::new (memory) region_chunk{};
    first->bytes = bytes;
    first->end = address_of(memory) + bytes;
    first->origin = origin;
    std::uintptr_t const begin = address_of(memory) + state_bytes;
    std::uintptr_t const end = first->end;
    auto* const core = ::new (pointer_to(first->begin())) region_core{*first, begin, options};
    core->tree_ =
        ::new (static_cast<void*>(core + 1)) region_tree{*core, upstream, options.kept_bytes_max};
    core->tree_->adopt(*first);
    if (core->watched()) {
        poison(pointer_to(begin), end - begin);
    }
    core->open_window();
    return core;
}

inline region_core* region_core::make_child(region_options const& options) {
    constexpr std::size_t state_bytes =
        round_up(sizeof(region_chunk) + sizeof(region_core), region_quantum);
    expect_open();
    if (options.initial_bytes > region_bytes_max || options.reserve_bytes > region_bytes_max) {
        throw std::bad_alloc{};
    }
    std::size_t const least =
        state_bytes + first_room_bytes + round_up(options.reserve_bytes, region_quantum);
    region_chunk* const first =
        tree_->acquire(least, std::max(round_up(options.initial_bytes, region_quantum), least));
    if (first == nullptr) {
        throw std::bad_alloc{};
    }
    first->next = nullptr;
    if (watched()) {
        unpoison(pointer_to(first->begin()), sizeof(region_core));
    }
    auto* const core = ::new (pointer_to(first->begin()))
        region_core{*first, address_of(first) + state_bytes, options};
    core->tree_ = tree_;
    core->parent_ = this;
    core->open_window();
    link(*core);
    ++children_;
    tree_->region_begins();
    return core;
}

[[gnu::noinline]] inline void* region_core::take_slow(std::size_t bytes, std::size_t alignment) {
    expect_region();
    if (!std::has_single_bit(alignment)) {
        throw std::invalid_argument{"tarn::region: alignment is no power of two"};
    }
    void* const block = try_take_slow(bytes, alignment);
    if (block == nullptr) {
        throw std::bad_alloc{};
    }
    return block;
}

[[gnu::noinline]] inline void* region_core::try_take_slow(std::size_t bytes,
                                                          std::size_t alignment) noexcept {
    if (!exists() || !std::has_single_bit(alignment) || bytes > region_bytes_max ||
        alignment > region_bytes_max) {
        return nullptr;
    }
    std::size_t const size = std::max(bytes, std::size_t{1});
    if (void* const block = take_here(size, alignment); block != nullptr) {
        return block;
    }
    std::size_t const padding = alignment > region_quantum ? alignment - region_quantum : 0;
    std::size_t const least =
        round_up(sizeof(region_chunk) + padding + size, region_quantum) + red_zone_bytes;
    if (least > options_.chunk_bytes_max / large_part) {
        return take_large(size, alignment, least);
    }
    std::size_t const twice = std::bit_floor(2 * chunk_->bytes);
    region_chunk* const chunk = tree_->acquire(
        least, std::max(std::bit_ceil(least), std::min(twice, options_.chunk_bytes_max)));
    if (chunk == nullptr) {
        return nullptr;
    }
    enter(*chunk);
    return take_here(size, alignment);
}

inline void* region_core::take_here(std::size_t size, std::size_t alignment) noexcept {
    std::uintptr_t const start = round_up(cursor_, alignment);
    std::uintptr_t const end = chunk_->end;
    if (start < cursor_ || start > end || size > end - start || after(start + size) > end) {
        return nullptr;
    }
    cursor_ = after(start + size);
    if (watched()) {
        unpoison(pointer_to(start), size);
    }
    open_window();
    return pointer_to(start);
}

inline void* region_core::take_large(std::size_t size, std::size_t alignment,
                                     std::size_t chunk_bytes) noexcept {
    region_chunk* const chunk = tree_->acquire(chunk_bytes, chunk_bytes);
    if (chunk == nullptr) {
        return nullptr;
    }
    chunk->next = large_;
    large_ = chunk;
    large_bytes_ += chunk->end - chunk->begin();
    std::uintptr_t const start = round_up(chunk->begin(), alignment);
    chunk->used = start + size;
    if (watched()) {
        unpoison(pointer_to(start), size);
    }
    return pointer_to(start);
}

inline void region_core::enter(region_chunk& chunk) noexcept {
    chunk_->used = cursor_;
    earlier_bytes_ += cursor_ - base_;
    chunk.next = chunk_;
    chunk_ = &chunk;
    base_ = cursor_ = chunk.begin();
    open_window();
}

inline void region_core::leave_chunk() noexcept {
    region_chunk* const gone = chunk_;
    chunk_ = gone->next;
    base_ = begin_of(*chunk_);
    cursor_ = chunk_->used;
    earlier_bytes_ -= cursor_ - base_;
    open_window();
    tree_->give(gone);
}

inline void region_core::give_large() noexcept {
    region_chunk* const gone = large_;
    large_ = gone->next;
    large_bytes_ -= gone->end - gone->begin();
    tree_->give(gone);
}

/// What was handed out since `cursor` was in `chunk`, and `large` the last chunk of its own.
inline void region_core::give_after(std::uintptr_t cursor, region_chunk const* chunk,
                                    region_chunk const* large) noexcept {
    note_peak();
    while (large_ != large) {
        give_large();
    }
    while (chunk_ != chunk) {
        leave_chunk();
    }
    cursor_ = cursor;
    if (watched()) {
        poison(pointer_to(cursor_), chunk_->end - cursor_);
    }
    open_window();
}

inline hook_node* region_core::find(void const* address, cleanup_node::action what,
                                    std::uint64_t serial) const noexcept {
    for (cleanup_node* node = newest_; node != nullptr; node = node->older) {
        if (node == address) {
            // Of another kind where the memory was used again.
            auto* const hook = node->act == what ? static_cast<hook_node*>(node) : nullptr;
            return hook != nullptr && hook->serial == serial ? hook : nullptr;
        }
    }
    return nullptr;
}

inline void region_core::finish_node(cleanup_node& node, cleanup_step step) noexcept {
    unlink(node);
    --cleanups_;
    if (releasing_) {
        node.act(node, step);
        return;
    }
    begin_release();
    node.act(node, step);
    end_release();
}

inline void region_core::run_cleanups(cleanup_node const* stop) noexcept {
    begin_release();
    region_core* now = this;
    for (;;) {
        cleanup_node* const node = now->newest_;
        if (node == (now == this ? stop : nullptr)) {
            if (now == this) {
                break;
            }
            region_core* const above = now->parent_;
            now->end_child();
            now = above;
        } else if (node->act == nullptr) {
            now = static_cast<region_core*>(node);
            now->begin_release();
        } else if (node == now->newest_mark_) {
            now->newest_mark_ = now->newest_mark_->older_mark;
            now->unlink(*node);
        } else {
            now->unlink(*node);
            --now->cleanups_;
            node->act(*node, cleanup_step::release);
        }
    }
    end_release();
}

/// After its cleanups. Nothing of this object is there any more when its first chunk is given.
inline void region_core::end_child() noexcept {
    end_release();
    if (handle != nullptr) {
        *handle = &no_region.value;
    }
    parent_->unlink(*this);
    --parent_->children_;
    region_tree& all = *tree_;
    while (large_ != nullptr) {
        give_large();
    }
    while (chunk_->next != nullptr) {
        leave_chunk();
    }
    all.give(chunk_);
    all.region_ends();
}

inline void region_core::destroy() noexcept {
    if (is_releasing_below()) {
        abort_with("destroyed inside of a cleanup of its own, or of a region below it");
    }
    run_cleanups(nullptr);
    if (parent_ != nullptr) {
        begin_release();  // end_child() ends it
        end_child();
        return;
    }
    while (large_ != nullptr) {
        give_large();
    }
    while (chunk_->next != nullptr) {
        leave_chunk();
    }
    region_chunk* const first = chunk_;
    std::pmr::memory_resource* const upstream = tree_->upstream_;
    chunk_origin const origin = first->origin;
    std::size_t const bytes = first->bytes;
    bool const was_watched = watched();
    tree_->~region_tree();
    if (was_watched) {
        unpoison(first, bytes);
    }
    if (origin == chunk_origin::upstream) {
        upstream->deallocate(first, bytes, region_quantum);
    }
}

inline void region_core::run_exec() noexcept {
    region_core* now = this;
    cleanup_node* node = newest_;
    for (;;) {
        if (node == nullptr) {
            if (now == this) {
                return;
            }
            node = now->older;
            now = now->parent_;
        } else if (node->act == nullptr) {
            now = static_cast<region_core*>(node);
            node = now->newest_;
        } else {
            node->act(*node, cleanup_step::exec);
            node = node->older;
        }
    }
}

inline mark_node* region_core::mark() {
    expect_open();
    auto* const node = ::new (take(sizeof(mark_node), alignof(mark_node))) mark_node{};
    node->act = &mark_node::nothing;
    node->older_mark = newest_mark_;
    node->serial = tree_->next_serial();
    node->cursor = cursor_;
    node->chunk = chunk_;
    node->large = large_;
    newest_mark_ = node;
    link(*node);
    return node;
}

inline mark_node* region_core::find_mark(std::uint64_t tree, std::uint64_t serial) const noexcept {
    if (tree != tree_->id()) {
        return nullptr;
    }
    mark_node* node = newest_mark_;
    while (node != nullptr && node->serial > serial) {
        node = node->older_mark;
    }
    return node != nullptr && node->serial == serial ? node : nullptr;
}

inline void region_core::rewind(mark_node& mark) noexcept {
    run_cleanups(&mark);
    give_after(mark.cursor, mark.chunk, mark.large);
    tree_->note_release();
}

inline void region_core::reset() noexcept {
    run_cleanups(nullptr);
    region_chunk const* first = chunk_;
    while (first->next != nullptr) {
        first = first->next;
    }
    give_after(first_begin_, first, nullptr);
    reserve_cursor_ = reserve_end_ - round_up(options_.reserve_bytes, region_quantum);
    if (watched()) {
        poison(pointer_to(reserve_cursor_), reserve_end_ - reserve_cursor_);
    }
    tree_->note_release();
}

inline bool region_core::owns(void const* pointer) const noexcept {
    std::uintptr_t const address = address_of(pointer);
    for (region_chunk const* chunk = chunk_; chunk != nullptr; chunk = chunk->next) {
        std::uintptr_t const end = chunk == chunk_ ? cursor_ : chunk->used;
        if (address >= begin_of(*chunk) && address < end) {
            return true;
        }
    }
    for (region_chunk const* chunk = large_; chunk != nullptr; chunk = chunk->next) {
        if (address >= chunk->begin() && address < chunk->used) {
            return true;
        }
    }
    std::size_t const reserve = round_up(options_.reserve_bytes, region_quantum);
    return address >= reserve_end_ - reserve && address < reserve_cursor_;
}

inline region_statistics region_core::statistics() const noexcept {
    region_statistics all{.used_bytes = used_bytes(),
                          .peak_used_bytes = std::max(peak_bytes_, used_bytes()),
                          .kept_bytes = tree_->kept_bytes(),
                          .cleanups = cleanups_,
                          .children = children_};
    for (region_chunk const* list : {chunk_, large_}) {
        for (region_chunk const* chunk = list; chunk != nullptr; chunk = chunk->next) {
            all.held_bytes += chunk->bytes;
            ++all.chunks;
        }
    }
    return all;
}

inline bool region_core::is_releasing_below() const noexcept {
    for (region_core const* core = tree_->releasing; core != nullptr;
         core = core->releasing_outside_) {
        for (region_core const* above = core; above != nullptr; above = above->parent_) {
            if (above == this) {
                return true;
            }
        }
    }
    return false;
}

inline void region_core::do_deallocate(void* block, std::size_t bytes, std::size_t /*alignment*/) {
    std::uintptr_t const start = address_of(block);
    if (start >= base_ && exists() && after(start + std::max(bytes, std::size_t{1})) == cursor_) {
        note_peak();
        cursor_ = start;
        if (watched()) {
            poison(block, bytes);
        }
        open_window();
    }
}

inline region_chunk* region_tree::carve(std::size_t bytes) noexcept {
    if (buffer_ == nullptr) {
        return nullptr;
    }
    for (region_chunk** link = &carved_free_; *link != nullptr; link = &(*link)->next) {
        if ((*link)->bytes >= bytes) {
            region_chunk* const chunk = *link;
            *link = chunk->next;
            ++carved_live_;
            return chunk;
        }
    }
    bool const current = root_->chunk_ == buffer_;
    std::uintptr_t const used = round_up(current ? root_->cursor_ : buffer_->used, region_quantum);
    if (bytes > buffer_->end - used) {
        return nullptr;
    }
    buffer_->end -= bytes;
    if (current) {
        root_->open_window();
    }
    if (watched_) {
        unpoison(pointer_to(buffer_->end), sizeof(region_chunk));
    }
    auto* const chunk = ::new (pointer_to(buffer_->end)) region_chunk{};
    chunk->bytes = bytes;
    chunk->end = buffer_->end + bytes;
    chunk->origin = chunk_origin::carved;
    ++carved_live_;
    return chunk;
}

/// Holes in what was carved close when all of it has come back.
inline void region_tree::give_carved(region_chunk* chunk) noexcept {
    --carved_live_;
    if (carved_live_ != 0) {
        chunk->next = carved_free_;
        carved_free_ = chunk;
        return;
    }
    carved_free_ = nullptr;
    if (watched_) {
        poison(pointer_to(buffer_->end), buffer_end_ - buffer_->end);
    }
    buffer_->end = buffer_end_;
    if (root_->chunk_ == buffer_) {
        root_->open_window();
    }
}

}  // namespace detail

}  // namespace tarn
