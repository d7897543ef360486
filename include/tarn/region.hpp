// tarn/region.hpp - region: memory that is taken piece by piece and given back all at once.
//
// Threads    one at a time for a region, its parent and its children; regions of different roots
//            are independent
// Always     a block stays where it is until the region is reset, rewound to a mark before it, or
//            destroyed. Then cleanups, destructors and children go, the last made first, and the
//            memory after all of them.
//            The state lies in the region's own memory: moving the handle moves nothing else, and
//            what points to resource() goes on.
// Cost       allocate(): align, compare, add. make<T>() adds 24 bytes where T has a destructor to
//            run, on_release() 40 and the function, mark() 64. A child: one chunk that was kept.
//            reset(), rewind(), the end: O(cleanups + children + chunks), nothing for blocks.
// Errors     std::bad_alloc: out of memory; the try_ forms return null
//            std::bad_array_new_length: a count so large that its bytes overflow
//            std::invalid_argument: an alignment that is no power of two (try_: null), a buffer too
//            small, a null upstream, a mark that is gone or of another region, a wrong format
//            std::logic_error: reset() or rewind() inside of a cleanup of the region or of one
//            below it; a cleanup, an object with a destructor, a child or a mark added while the
//            region's cleanups run (memory alone may be allocated then: it lives until the last of
//            them has run); a handle used after it was moved from or after its parent ended it
//            report and abort: a region destroyed inside of a cleanup of its own or of one below
//            std::terminate: a cleanup or a destructor that throws
// Source     docs/design/region.md
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <memory_resource>
#include <new>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tarn/detail/region_cleanup.hpp>
#include <tarn/detail/region_core.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

/// A place to rewind to; may be copied, and used more than once.
class region_mark {
    friend class region;

    std::uint64_t tree_ = 0;
    std::uint64_t serial_ = 0;
};

/// Names a function that waits for a release or an exec.
class cleanup_id {
    friend class region;

    std::uint64_t tree_ = 0;
    std::uint64_t serial_ = 0;
    void const* node_ = nullptr;
    detail::cleanup_node::action act_ = nullptr;
};

class region {
public:
    /// Chunks from malloc_resource().
    region() : region{region_options{}} {}

    explicit region(region_options const& options) : region{malloc_resource(), options} {}

    /// `upstream` must live longer, and throw nothing but std::bad_alloc.
    explicit region(std::pmr::memory_resource* upstream, region_options const& options = {})
        : core_{make(upstream, nullptr, options)} {
        core_->handle = &core_;
    }

    /// Nothing but the buffer, for the children, too. buffer_bytes_min and the reserve must fit.
    explicit region(std::span<std::byte> buffer, region_options const& options = {})
        : core_{detail::region_core::make_root(nullptr, &buffer, options)} {
        core_->handle = &core_;
    }

    /// The buffer first, then chunks from `upstream`.
    region(std::span<std::byte> buffer, std::pmr::memory_resource* upstream,
           region_options const& options = {})
        : core_{make(upstream, &buffer, options)} {
        core_->handle = &core_;
    }

    region(region&& other) noexcept : core_{std::exchange(other.core_, none())} { hold(); }

    region& operator=(region&& other) noexcept {
        if (this != &other) {
            end();
            core_ = std::exchange(other.core_, none());
            hold();
        }
        return *this;
    }

    ~region() { end(); }

    /// A region that is reset, or goes, with this one at the latest; it may go before.
    [[nodiscard]] region make_child() { return make_child(core_->options()); }

    /// The children's memory is the tree's: kept_bytes_max is the root's.
    [[nodiscard]] region make_child(region_options const& options) {
        return region{core_->make_child(options)};
    }

    /// False when it was moved from, or ended with its parent.
    [[nodiscard]] explicit operator bool() const noexcept { return core_->exists(); }

    /// A block of `bytes`; one of no bytes has an address of its own, too.
    [[nodiscard]] void* allocate(std::size_t bytes, std::size_t alignment = default_alignment) {
        return core_->take(bytes, alignment);
    }

    /// Null: out of memory, or a bad argument.
    [[nodiscard]] void* try_allocate(std::size_t bytes,
                                     std::size_t alignment = default_alignment) noexcept {
        return core_->try_take(bytes, alignment);
    }

    /// For std::pmr containers, which must go before the region is reset or ends, or be made in
    /// it. Gives back a block only when it is the last one.
    [[nodiscard]] std::pmr::memory_resource* resource() {
        core_->expect_region();
        return core_;
    }

    /// An object, destroyed with the region where it has a destructor. Where its constructor
    /// throws, its memory is left.
    template <class T, class... Args>
    [[nodiscard]] T* make(Args&&... args) {
        if constexpr (std::is_trivially_destructible_v<T>) {
            return construct<T>(allocate(sizeof(T), alignof(T)), std::forward<Args>(args)...);
        } else {
            core_->expect_open();
            using node = detail::object_node<T>;
            return make_in<T>(core_->take(sizeof(node), alignof(node)),
                              std::forward<Args>(args)...);
        }
    }

    /// Null: out of memory, or a destructor to add while cleanups run.
    template <class T, class... Args>
    [[nodiscard]] T* try_make(Args&&... args) {
        if constexpr (std::is_trivially_destructible_v<T>) {
            void* const memory = try_allocate(sizeof(T), alignof(T));
            return memory == nullptr ? nullptr : construct<T>(memory, std::forward<Args>(args)...);
        } else {
            using node = detail::object_node<T>;
            void* const memory =
                core_->is_releasing() ? nullptr : core_->try_take(sizeof(node), alignof(node));
            return memory == nullptr ? nullptr : make_in<T>(memory, std::forward<Args>(args)...);
        }
    }

    /// `count` objects, each T{}: numbers are 0. Destroyed with the region, the last first.
    template <class T>
    [[nodiscard]] std::span<T> make_array(std::size_t count) {
        return build_array<T>(
            count, [](T* first, std::size_t n) { std::uninitialized_value_construct_n(first, n); });
    }

    /// `count` objects without a value yet.
    template <class T>
        requires std::is_trivially_default_constructible_v<T>

    [[nodiscard]] std::span<T> make_array_for_overwrite(std::size_t count) {
        return build_array<T>(count, [](T* first, std::size_t n) {
            std::uninitialized_default_construct_n(first, n);
        });
    }

    // Strings: each is followed by a '\0' that size() does not count.

    [[nodiscard]] std::string_view copy(std::string_view text) { return join({text}); }

    /// What std::string_view can view, one after the other.
    template <std::convertible_to<std::string_view>... Parts>
    [[nodiscard]] std::string_view concat(Parts const&... parts) {
        return join({std::string_view{parts}...});
    }

    /// Like printf.
    [[nodiscard, gnu::format(printf, 2, 3)]] std::string_view format(char const* pattern, ...) {
        std::va_list args;
        va_start(args, pattern);
        leave_va_list const leave{args};
        return vformat(pattern, args);
    }

    [[nodiscard, gnu::format(printf, 2, 0)]] std::string_view vformat(char const* pattern,
                                                                      std::va_list args) {
        std::array<char, format_bytes> text;
        std::va_list again;
        va_copy(again, args);
        leave_va_list const leave{again};
        int const length = std::vsnprintf(text.data(), text.size(), pattern, args);
        if (length < 0) {
            throw std::invalid_argument{"tarn::region: a format that printf refuses"};
        }
        auto const size = static_cast<std::size_t>(length);
        auto* const result = static_cast<char*>(allocate(size + 1, 1));
        if (size < text.size()) {
            std::memcpy(result, text.data(), size + 1);
        } else {
            static_cast<void>(std::vsnprintf(result, size + 1, pattern, again));
        }
        return {result, size};
    }

    /// Like format(), for when memory is out: then in what is left of the reserve, and cut to that.
    /// Empty where not even that is left, or the format is wrong.
    [[nodiscard, gnu::format(printf, 2, 3)]] std::string_view error_text(char const* pattern,
                                                                         ...) noexcept {
        std::va_list args;
        va_start(args, pattern);
        leave_va_list const leave{args};
        std::va_list again;
        va_copy(again, args);
        leave_va_list const leave_again{again};
        int const length = std::vsnprintf(nullptr, 0, pattern, args);
        if (length < 0) {
            return "";
        }
        std::size_t bytes = static_cast<std::size_t>(length) + 1;
        void* memory = core_->try_take(bytes, 1);
        if (memory == nullptr) {
            bytes = std::min(bytes, core_->reserve_left());
            memory = bytes == 0 ? nullptr : core_->take_reserve(bytes, 1);
        }
        if (memory == nullptr) {
            return "";
        }
        auto* const text = static_cast<char*>(memory);
        static_cast<void>(std::vsnprintf(text, bytes, pattern, again));
        return {text, bytes - 1};
    }

    /// A block from the reserve, which nothing else takes from but error_text(); null where it is
    /// used up, or for a bad argument. reset() fills it again.
    [[nodiscard]] void* allocate_from_reserve(std::size_t bytes,
                                              std::size_t alignment = default_alignment) noexcept {
        return core_->take_reserve(std::max(bytes, std::size_t{1}), alignment);
    }

    /// `function()` runs before the memory goes. It runs at once where it cannot be added, and then
    /// the exception is thrown: whatever it closes is closed.
    template <class Function>
    cleanup_id on_release(Function&& function) {
        return add_hook(std::forward<Function>(function), detail::hook_event::release);
    }

    /// `function()` runs in run_exec_cleanups(), and not when the memory goes.
    template <class Function>
    cleanup_id on_exec(Function&& function) {
        return add_hook(std::forward<Function>(function), detail::hook_event::exec);
    }

    /// Both: for what neither a release nor a new program should leave open.
    template <class Function>
    cleanup_id on_release_or_exec(Function&& function) {
        return add_hook(std::forward<Function>(function), detail::hook_event::release_or_exec);
    }

    /// The function will not run. False when it has run already, or is not of this region.
    /// O(cleanups that are newer).
    bool cancel(cleanup_id id) noexcept { return finish(id, detail::cleanup_step::forget); }

    /// The function runs now, and not again. False as with cancel().
    bool run_now(cleanup_id id) noexcept { return finish(id, detail::cleanup_step::run); }

    /// For a child process between fork() and exec(): functions added for that run, those of
    /// children, too, the last added first. The region stays as it is. After a fork of a program
    /// with threads, they may call only what is safe in signal handlers, and may not add or end
    /// anything here.
    void run_exec_cleanups() noexcept { core_->run_exec(); }

    [[nodiscard]] region_mark mark() {
        auto const* const node = core_->mark();
        region_mark made;
        made.tree_ = core_->tree().id();
        made.serial_ = node->serial;
        return made;
    }

    /// Ends what was made since the mark, children, too. The mark stays, later ones are gone.
    void rewind(region_mark mark) {
        core_->expect_region();
        if (core_->is_releasing_below()) {
            core_->refuse("rewound inside of a cleanup of its own, or of a region below it");
        }
        detail::mark_node* const node = core_->find_mark(mark.tree_, mark.serial_);
        if (node == nullptr) {
            throw std::invalid_argument{"tarn::region: a mark that is gone, or of another region"};
        }
        core_->rewind(*node);
    }

    /// Ends what was made, children and marks, too. The first chunk stays; of the others, the tree
    /// keeps as many bytes as it has needed lately: docs/design/region.md.
    void reset() {
        core_->expect_region();
        if (core_->is_releasing_below()) {
            core_->refuse("reset inside of a cleanup of its own, or of a region below it");
        }
        core_->reset();
    }

    /// Gives all kept chunks of the tree upstream.
    void trim() {
        core_->expect_region();
        core_->tree().give_back_kept(0);
    }

    /// Whether a byte lies in a block of this region; one of a child is not.
    [[nodiscard]] bool owns(void const* pointer) const noexcept { return core_->owns(pointer); }

    [[nodiscard]] region_statistics statistics() const {
        core_->expect_region();
        return core_->statistics();
    }

    [[nodiscard]] char const* name() const noexcept { return core_->options().name; }

    static constexpr std::size_t default_alignment = alignof(std::max_align_t);
    static constexpr std::size_t buffer_bytes_min =
        detail::region_core::root_bytes_min + detail::region_quantum;  // besides the reserve

private:
    static constexpr std::size_t format_bytes = 256;  // longer texts are formatted twice

    struct leave_va_list {
        explicit leave_va_list(std::va_list& its_list) noexcept : list{its_list} {}

        leave_va_list(leave_va_list const&) = delete;
        leave_va_list& operator=(leave_va_list const&) = delete;

        ~leave_va_list() { va_end(list); }

        std::va_list& list;
    };

    explicit region(detail::region_core* core) noexcept : core_{core} { hold(); }

    [[nodiscard]] static detail::region_core* none() noexcept { return &detail::no_region.value; }

    [[nodiscard]] static detail::region_core* make(std::pmr::memory_resource* upstream,
                                                   std::span<std::byte> const* buffer,
                                                   region_options const& options) {
        if (upstream == nullptr) {
            throw std::invalid_argument{"tarn::region: no upstream resource"};
        }
        return detail::region_core::make_root(upstream, buffer, options);
    }

    void hold() noexcept {
        if (core_->exists()) {
            core_->handle = &core_;
        }
    }

    void end() noexcept {
        if (core_->exists()) {
            core_->destroy();
        }
    }

    template <class T, class... Args>
    static T* construct(void* memory, Args&&... args) {
        if constexpr (std::is_constructible_v<T, Args...>) {
            return ::new (memory) T(std::forward<Args>(args)...);
        } else {
            return ::new (memory) T{std::forward<Args>(args)...};
        }
    }

    template <class T, class... Args>
    T* make_in(void* memory, Args&&... args) {
        using node = detail::object_node<T>;
        auto* const made = ::new (memory) node;
        T* const object = construct<T>(made->storage, std::forward<Args>(args)...);
        core_->add(*made, &node::destroy);
        return object;
    }

    template <class T, class Construct>
    std::span<T> build_array(std::size_t count, Construct construct_all) {
        using node = detail::array_node<T>;
        constexpr bool simple = std::is_trivially_destructible_v<T>;
        constexpr std::size_t offset = simple ? 0 : node::offset;
        if (count > (detail::region_bytes_max - offset) / sizeof(T)) {
            throw std::bad_array_new_length{};
        }
        if (!simple) {
            core_->expect_open();
        }
        if (count == 0) {
            core_->expect_region();
            return {};
        }
        if constexpr (simple) {
            auto* const first = static_cast<T*>(allocate(count * sizeof(T), alignof(T)));
            construct_all(first, count);
            return {first, count};
        } else {
            auto* const made =
                ::new (core_->take(offset + count * sizeof(T), node::alignment)) node{};
            made->count = count;
            construct_all(made->elements(), count);
            core_->add(*made, &node::destroy);
            return {made->elements(), count};
        }
    }

    std::string_view join(std::initializer_list<std::string_view> parts) {
        std::size_t size = 0;
        for (std::string_view const part : parts) {
            if (part.size() > detail::region_bytes_max - size) {
                throw std::bad_array_new_length{};
            }
            size += part.size();
        }
        auto* const text = static_cast<char*>(allocate(size + 1, 1));
        char* next = text;
        for (std::string_view const part : parts) {
            next = std::copy(part.begin(), part.end(), next);
        }
        *next = '\0';
        return {text, size};
    }

    template <class Function>
    cleanup_id add_hook(Function&& function, detail::hook_event events) {
        using stored = std::decay_t<Function>;
        using node = detail::function_node<stored>;
        static_assert(std::is_invocable_v<stored&>);
        static_assert(std::is_nothrow_constructible_v<stored, Function>,
                      "a cleanup is kept by a copy or move that cannot throw: std::move() it");
        void* memory = nullptr;
        try {
            core_->expect_open();
            memory = core_->take(sizeof(node), alignof(node));
        } catch (...) {
            if (detail::has(events, detail::hook_event::release)) {
                // NOLINTNEXTLINE(bugprone-exception-escape): std::terminate, as promised
                [&]() noexcept { static_cast<void>(function()); }();
            }
            throw;
        }
        auto* const made = ::new (memory) node{std::in_place, std::forward<Function>(function)};
        made->serial = core_->tree().next_serial();
        made->events = events;
        core_->add(*made, made->act);
        cleanup_id id;
        id.tree_ = core_->tree().id();
        id.node_ = static_cast<detail::cleanup_node*>(made);
        id.act_ = made->act;
        id.serial_ = made->serial;
        return id;
    }

    bool finish(cleanup_id id, detail::cleanup_step step) noexcept {
        if (!core_->exists() || id.tree_ != core_->tree().id()) {
            return false;
        }
        detail::hook_node* const node = core_->find(id.node_, id.act_, id.serial_);
        if (node != nullptr) {
            core_->finish_node(*node, step);
        }
        return node != nullptr;
    }

    detail::region_core* core_;
};

}  // namespace tarn
