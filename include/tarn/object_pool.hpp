// tarn/object_pool.hpp - object_pool<T, Sync>: objects of one type, made and destroyed in place;
// new_element<T>() and delete_element(): the same without a pool to name.
//
// Threads    object_pool<T, single_thread>: one at a time. object_pool<T, locked>, new_element(),
//            delete_element(): any. Constructors and destructors of T run outside of the lock.
// Always     As block_pool: objects stay where they are, a pool may move, memory goes back. The end
//            of a pool destroys what still lives in it. An exception in a constructor gives the
//            block back and passes on. The pools behind new_element() are there before the first
//            constructor of the program and after its last destructor.
// Errors     as block_pool. A pointer that is none of the pool's is found before the destructor
//            runs: delete_element() reports it, delete_element_checked() throws.
// Cost       as block_pool; locked: a mutex. The end: all blocks where T has a destructor, else a
//            free for each chunk
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <tarn/detail/block_store.hpp>
#include <tarn/detail/misuse.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

/// The pool is used by one thread at a time.
struct single_thread {
    void lock() noexcept {}

    void unlock() noexcept {}
};

/// Any thread may use the pool.
using locked = std::mutex;

struct object_pool_options {
    std::size_t elements_most = detail::block_store::unbounded;
    char const* name = "";  // for reports; must outlive the pool
    std::pmr::memory_resource* upstream = malloc_resource();
};

template <class T, class Sync = single_thread>
class object_pool {
    static_assert(std::is_object_v<T> && !std::is_array_v<T>);
    static_assert(std::is_nothrow_destructible_v<T>);

    struct core;

public:
    using value_type = T;
    using options = object_pool_options;

    object_pool() : object_pool{options{}} {}

    explicit object_pool(options const& wanted) : core_{make(wanted)} {}

    object_pool(object_pool&& other) noexcept : core_{std::exchange(other.core_, nullptr)} {}

    object_pool& operator=(object_pool&& other) noexcept {
        std::swap(core_, other.core_);
        return *this;
    }

    object_pool(object_pool const&) = delete;
    object_pool& operator=(object_pool const&) = delete;

    ~object_pool() {
        if (core_ == nullptr) {
            return;
        }
        destroy_all();
        std::pmr::memory_resource* const home = core_->upstream;
        std::destroy_at(core_);
        home->deallocate(core_, sizeof(core), alignof(core));
    }

    template <class... Arguments>
    [[nodiscard]] T* new_element(Arguments&&... arguments) {
        void* const block = take();
        try {
            return ::new (block) T(std::forward<Arguments>(arguments)...);
        } catch (...) {
            put(block);
            throw;
        }
    }

    /// Null is allowed.
    void delete_element(T* element) noexcept {
        detail::block_verdict const verdict = judge(element);
        if (verdict != detail::block_verdict::fine) [[unlikely]] {
            return core_->report("delete_element", element, verdict);
        }
        std::destroy_at(element);
        put(element);
    }

    void delete_element_checked(T* element) {
        detail::block_verdict const verdict = judge(element);
        if (verdict != detail::block_verdict::fine) [[unlikely]] {
            return core_->fail("delete_element_checked", element, verdict);
        }
        std::destroy_at(element);
        put(element);
    }

    /// Deletes an element in the pool it came from, however the pool has moved since.
    class deleter {
    public:
        deleter() noexcept = default;

        void operator()(T* element) const noexcept {
            object_pool borrowed{core_};
            borrowed.delete_element(element);
            borrowed.core_ = nullptr;
        }

    private:
        friend object_pool;

        explicit deleter(core* of) noexcept : core_{of} {}

        core* core_ = nullptr;
    };

    using unique = std::unique_ptr<T, deleter>;

    /// Must not outlive the pool.
    template <class... Arguments>
    [[nodiscard]] unique make_unique(Arguments&&... arguments) {
        return unique{new_element(std::forward<Arguments>(arguments)...), deleter{core_}};
    }

    /// Destroys all elements.
    void clear() noexcept {
        destroy_all();
        core_->store.clear();
    }

    /// As block_pool::trim().
    std::size_t trim() noexcept {
        std::lock_guard const guard{core_->sync};
        return core_->store.trim();
    }

    [[nodiscard]] bool owns(T const* element) const noexcept {
        return judge(element) == detail::block_verdict::fine;
    }

    /// Number of elements. Cost: the number of chunks, and of blocks freed last.
    [[nodiscard]] std::size_t size() const noexcept {
        std::lock_guard const guard{core_->sync};
        return core_->store.live();
    }

    [[nodiscard]] std::size_t held_bytes() const noexcept {
        std::lock_guard const guard{core_->sync};
        return core_->store.held_bytes();
    }

    [[nodiscard]] char const* name() const noexcept { return core_->name; }

    /// Calls visit(T&) for each element, in no order. It must not use the pool, nor may other
    /// threads make or delete elements meanwhile. Cost: all blocks.
    template <class Visit>
    void for_each(Visit visit) {
        core_->store.for_each([&visit](void* block) { visit(*static_cast<T*>(block)); });
    }

private:
    struct core {
        char const* name;
        std::pmr::memory_resource* upstream;
        detail::block_store store;
        [[no_unique_address]] Sync sync{};

        [[gnu::cold, gnu::noinline]] void report(char const* operation, void const* element,
                                                 detail::block_verdict verdict) const noexcept {
            if (element != nullptr) {
                detail::report({"object_pool", name, operation, element, detail::reason(verdict)});
            }
        }

        [[gnu::cold, gnu::noinline]] void fail(char const* operation, void const* element,
                                               detail::block_verdict verdict) const {
            if (element != nullptr) {
                detail::fail({"object_pool", name, operation, element, detail::reason(verdict)});
            }
        }
    };

    explicit object_pool(core* of) noexcept : core_{of} {}

    static core* make(options const& wanted) {
        std::pmr::memory_resource& home = *wanted.upstream;
        void* const memory = home.allocate(sizeof(core), alignof(core));
        try {
            return ::new (memory)
                core{wanted.name, &home, {{sizeof(T), alignof(T)}, wanted.elements_most, &home}};
        } catch (...) {
            home.deallocate(memory, sizeof(core), alignof(core));
            throw;
        }
    }

    [[nodiscard]] void* take() {
        std::lock_guard const guard{core_->sync};
        void* const block = core_->store.allocate();
        if (block == nullptr) [[unlikely]] {
            throw std::bad_alloc{};
        }
        return block;
    }

    [[nodiscard]] detail::block_verdict judge(void const* element) const noexcept {
        std::lock_guard const guard{core_->sync};
        return core_->store.judge(element);
    }

    void put(void* block) noexcept {
        std::lock_guard const guard{core_->sync};
        core_->store.release(block);
    }

    void destroy_all() noexcept {
        if constexpr (!std::is_trivially_destructible_v<T>) {
            for_each([](T& element) { std::destroy_at(&element); });
        }
    }

    core* core_;
};

namespace detail {

inline constexpr std::size_t element_step = 8;
inline constexpr std::size_t element_bytes_most = 512;

/// A pool for each multiple of 8 bytes up to 512, for elements of any type.
class element_pools {
public:
    [[nodiscard]] static element_pools& all() {
        alignas(element_pools) static std::byte memory[sizeof(element_pools)];
        static element_pools* const made = ::new (memory) element_pools;  // never destroyed
        return *made;
    }

    [[nodiscard]] void* take(std::size_t bytes) {
        pool& from = of(bytes);
        std::lock_guard const guard{from.mutex};
        if (!from.store) {
            std::size_t const block_bytes =
                (bytes + element_step - 1) / element_step * element_step;
            // A type's size is a multiple of its alignment.
            from.store.emplace(block_shape{block_bytes, block_bytes & (~block_bytes + 1)},
                               block_store::unbounded, malloc_resource());
        }
        return from.store->allocate();
    }

    [[nodiscard]] block_verdict judge(void const* ptr, std::size_t bytes) noexcept {
        pool& from = of(bytes);
        std::lock_guard const guard{from.mutex};
        return from.store ? from.store->judge(ptr) : block_verdict::foreign;
    }

    void put(void* block, std::size_t bytes) noexcept {
        pool& from = of(bytes);
        std::lock_guard const guard{from.mutex};
        from.store->release(block);
    }

    /// Number of elements of such a size.
    [[nodiscard]] std::size_t size(std::size_t bytes) noexcept {
        pool& from = of(bytes);
        std::lock_guard const guard{from.mutex};
        return from.store ? from.store->live() : 0;
    }

private:
    struct pool {
        std::mutex mutex;
        std::optional<block_store> store;
    };

    [[nodiscard]] pool& of(std::size_t bytes) noexcept {
        return pools_[(bytes + element_step - 1) / element_step - 1];
    }

    std::array<pool, element_bytes_most / element_step> pools_;
};

template <class T>
inline constexpr bool is_pooled_element = sizeof(T) <= element_bytes_most;

}  // namespace detail

/// An object in a pool of its size: any thread may make and delete it, at any time of the program.
/// Above 512 bytes, a block of tarn_aligned_alloc(). Errors: std::bad_alloc.
template <class T, class... Arguments>
[[nodiscard]] T* new_element(Arguments&&... arguments) {
    static_assert(std::is_object_v<T> && !std::is_array_v<T>, "see new_elements()");
    if constexpr (detail::is_pooled_element<T>) {
        detail::element_pools& pools = detail::element_pools::all();
        void* const block = pools.take(sizeof(T));
        try {
            return ::new (block) T(std::forward<Arguments>(arguments)...);
        } catch (...) {
            pools.put(block, sizeof(T));
            throw;
        }
    } else {
        void* const block = malloc_resource()->allocate(sizeof(T), alignof(T));
        try {
            return ::new (block) T(std::forward<Arguments>(arguments)...);
        } catch (...) {
            malloc_resource()->deallocate(block, sizeof(T), alignof(T));
            throw;
        }
    }
}

/// `element`: null, or of new_element() with exactly this type. Reports what is neither.
template <class T>
void delete_element(T* element) noexcept {
    static_assert(std::is_nothrow_destructible_v<T>);
    if (element == nullptr) {
        return;
    }
    if constexpr (detail::is_pooled_element<T>) {
        detail::element_pools& pools = detail::element_pools::all();
        detail::block_verdict const verdict = pools.judge(element, sizeof(T));
        if (verdict != detail::block_verdict::fine) [[unlikely]] {
            return detail::report(
                {"delete_element", "", "deletion", element, detail::reason(verdict)});
        }
        std::destroy_at(element);
        pools.put(element, sizeof(T));
    } else {
        std::destroy_at(element);
        malloc_resource()->deallocate(element, sizeof(T), alignof(T));
    }
}

/// `count` objects, value-initialised, in one block. Where one constructor throws, those made are
/// destroyed. Errors: std::bad_array_new_length where their bytes overflow.
template <class T>
[[nodiscard]] std::span<T> new_elements(std::size_t count) {
    if (count > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(T)) {
        throw std::bad_array_new_length{};
    }
    if (count == 0) {
        return {};
    }
    auto* const first = static_cast<T*>(malloc_resource()->allocate(count * sizeof(T), alignof(T)));
    try {
        std::uninitialized_value_construct_n(first, count);
    } catch (...) {
        malloc_resource()->deallocate(first, count * sizeof(T), alignof(T));
        throw;
    }
    return {first, count};
}

template <class T>
void delete_elements(std::span<T> elements) noexcept {
    static_assert(std::is_nothrow_destructible_v<T>);
    std::destroy(elements.rbegin(), elements.rend());
    malloc_resource()->deallocate(elements.data(), elements.size_bytes(), alignof(T));
}

}  // namespace tarn
