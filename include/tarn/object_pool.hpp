// tarn/object_pool.hpp - object_pool<T, Sync>: objects of one type, made and destroyed in place;
// new_element<T>() and delete_element(): the same without a pool to name.
//
// Threads    object_pool<T, single_thread>: one at a time. object_pool<T, locked>,
//            object_pool<T, lock_free>, new_element(), delete_element(): any. Constructors and
//            destructors of T run outside of the lock. lock_free: clear(), for_each() and the end
//            are for one thread while none of the others uses the pool; threads that have used it
//            may end before, meanwhile and after.
// Always     As block_pool: objects stay where they are, a pool may move, memory goes back. The end
//            of a pool destroys what still lives in it. An exception in a constructor gives the
//            block back and passes on. The pools behind new_element() are there before the first
//            constructor of the program and after its last destructor.
// Errors     as block_pool. A pointer that is none of the pool's is found before the destructor
//            runs: delete_element() reports it, delete_element_checked() throws.
//            lock_free: memory goes back with clear() and the end; a second return is seen whatever
//            the size.
// Cost       as block_pool; locked: a mutex. The end: all blocks where T has a destructor, else a
//            free for each chunk
//            lock_free: as block_pool where elements_most is 65,536 or more, or not given: each
//            thread keeps up to 64 blocks then, which count towards it. Else the bound is exact,
//            and costs a compare-exchange or two for each element and each delete. An element takes
//            at least 16 bytes, and 4 more.
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <tarn/detail/block_store.hpp>
#include <tarn/detail/listed_owner.hpp>
#include <tarn/detail/lock_free_store.hpp>
#include <tarn/detail/misuse.hpp>
#include <tarn/detail/pool_core.hpp>
#include <tarn/memory_resource.hpp>

namespace tarn {

/// The pool is used by one thread at a time.
struct single_thread {
    void lock() noexcept {}

    void unlock() noexcept {}
};

/// Any thread may use the pool. See also lock_free, in tarn/detail/lock_free_store.hpp.
using locked = std::mutex;

namespace detail {

/// Destroys an element and gives its block back, if the store accepts it at once. The destructor
/// runs outside of the lock.
template <class T, class Store, class Sync, std::size_t Bytes>
[[nodiscard]] bool try_delete(T* element, Store& store, Sync& sync,
                              fixed_shape<Bytes> shape) noexcept {
    std::unique_lock guard{sync};
    if (!store.accepts(element, shape)) [[unlikely]] {
        return false;
    }
    if constexpr (!std::is_trivially_destructible_v<T>) {
        guard.unlock();
        std::destroy_at(element);
        guard.lock();
    }
    store.release(element, shape);
    return true;
}

}  // namespace detail

struct object_pool_options {
    std::size_t elements_most = detail::block_store::unbounded;
    char const* name = "";  // for reports and statistics; must outlive the pool
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
        if (core_ != nullptr) {
            destroy_all();
            detail::destroy_core(core_);
        }
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
        if (!try_delete(element) && core_->confirm("delete_element", element, judge(element))) {
            delete_judged(element);
        }
    }

    /// Null is allowed.
    void delete_element_checked(T* element) {
        if (!try_delete(element) &&
            core_->demand("delete_element_checked", element, judge(element))) {
            delete_judged(element);
        }
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

    [[nodiscard]] char const* name() const noexcept { return core_->owner.name(); }

    /// Calls visit(T&) for each element, in no order. It must not use the pool, nor may other
    /// threads make or delete elements meanwhile. Cost: all blocks.
    template <class Visit>
    void for_each(Visit visit) {
        core_->store.for_each([&visit](void* block) { visit(*static_cast<T*>(block)); });
    }

private:
    static constexpr detail::block_shape shape{sizeof(T), alignof(T)};
    static constexpr detail::fixed_shape<detail::block_store::block_bytes_for(shape)> fixed{};

    struct core : detail::pool_core<typename detail::store_for<Sync>::type> {
        core(options const& wanted, std::pmr::memory_resource* upstream)
            : core::pool_core{{"object_pool", wanted.name}, shape, wanted.elements_most, upstream} {
        }

        [[no_unique_address]] Sync sync{};
    };

    explicit object_pool(core* of) noexcept : core_{of} {}

    static core* make(options const& wanted) {
        return detail::make_core<core>(wanted.upstream, wanted);
    }

    [[nodiscard]] void* take() {
        std::lock_guard const guard{core_->sync};
        void* const block = core_->store.allocate(fixed);
        if (block == nullptr) [[unlikely]] {
            throw std::bad_alloc{};
        }
        return block;
    }

    [[nodiscard]] bool try_delete(T* element) noexcept {
        return detail::try_delete(element, core_->store, core_->sync, fixed);
    }

    [[nodiscard]] detail::block_verdict judge(void const* element) const noexcept {
        std::lock_guard const guard{core_->sync};
        return core_->store.judge(element);
    }

    [[gnu::cold, gnu::noinline]] void delete_judged(T* element) noexcept {
        std::destroy_at(element);
        put(element);
    }

    /// Gives a block back that was allocated for sure.
    [[gnu::cold, gnu::noinline]] void put(void* block) noexcept {
        std::lock_guard const guard{core_->sync};
        core_->store.release_judged(block);
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
    element_pools() : element_pools{std::make_index_sequence<count>{}} {}

    [[nodiscard]] static element_pools& all() {
        // Never destroyed, and not in memory of a library that may be unloaded: statistics know it.
        static element_pools* const made =
            ::new (malloc_resource()->allocate(sizeof(element_pools), alignof(element_pools)))
                element_pools;
        return *made;
    }

    /// Room for an element of so many bytes.
    template <std::size_t Bytes>
    [[nodiscard]] void* take() {
        pool& from = of(Bytes);
        std::lock_guard const guard{from.mutex};
        return from.store.allocate(fixed_shape<round(Bytes)>{});
    }

    /// Reports what is no element of such a size.
    template <class T>
    void destroy(T* element) noexcept {
        pool& from = of(sizeof(T));
        if (try_delete(element, from.store, from.mutex, fixed_shape<round(sizeof(T))>{}))
            [[likely]] {
            return;
        }
        block_verdict const verdict = judge(element, sizeof(T));
        if (verdict != block_verdict::fine) {
            return report({"delete_element", "", "deletion", element, reason(verdict)});
        }
        std::destroy_at(element);
        put(element, sizeof(T));
    }

    /// Gives a block back that was allocated for sure.
    void put(void* block, std::size_t bytes) noexcept {
        pool& from = of(bytes);
        std::lock_guard const guard{from.mutex};
        from.store.release_judged(block);
    }

    /// Number of elements of such a size.
    [[nodiscard]] std::size_t size(std::size_t bytes) noexcept {
        pool& from = of(bytes);
        std::lock_guard const guard{from.mutex};
        return from.store.live();
    }

private:
    static constexpr std::size_t count = element_bytes_most / element_step;

    /// Neighbours are used by different threads.
    struct alignas(64) pool {
        pool(std::size_t bytes, char const* kind)
            : store{shape(bytes), block_store::unbounded, malloc_resource()}, owner{kind, ""} {
            store.tell(owner.get());
        }

        block_store store;
        std::mutex mutex;
        listed_owner owner;
    };

    template <std::size_t... I>
    explicit element_pools(std::index_sequence<I...> /*numbers*/)
        : kind_{"element_pools"}, pools_{{{(I + 1) * element_step, kind_.data()}...}} {}

    static constexpr std::size_t round(std::size_t bytes) noexcept {
        return (bytes + element_step - 1) / element_step * element_step;
    }

    /// A type's size is a multiple of its alignment.
    static constexpr block_shape shape(std::size_t bytes) noexcept {
        return {bytes, bytes & (~bytes + 1)};
    }

    [[nodiscard]] pool& of(std::size_t bytes) noexcept {
        return pools_[round(bytes) / element_step - 1];
    }

    [[nodiscard]] block_verdict judge(void const* ptr, std::size_t bytes) noexcept {
        pool& from = of(bytes);
        std::lock_guard const guard{from.mutex};
        return from.store.judge(ptr);
    }

    std::array<char, 16> kind_;
    std::array<pool, count> pools_;
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
        void* const block = pools.take<sizeof(T)>();
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
        detail::element_pools::all().destroy(element);
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
