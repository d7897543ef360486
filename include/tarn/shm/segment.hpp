// tarn/shm/segment.hpp - segment: one attachment of a file of pools that processes share.
//
//     tarn::shm::segment_config const pools =
//         tarn::shm::segment_config{}.add_pool({.chunk_bytes = 4096, .count = 100});
//     tarn::shm::segment camera = tarn::shm::segment::create_or_attach("camera", pools).value();
//
// Threads    any, but for the end of the object and moving it, which must be the last calls of all
// Always     A moved-from segment is empty: only has_value(), assignment and its end are for it.
//            What is made of a segment (pool_manager, loan, held, magazine) must end before it.
// Death      as in tarn/shm.h: what this process holds goes back however it ends
// Fork       the child's copy is only to be destroyed; it attaches anew
// Errors     values: tarn/shm/error.hpp. std::bad_alloc from what returns a std container
// Cost       attaching: some system calls and a mapping. Moving: none
// Source     docs/shm.md, docs/design/shm.md
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tarn/shm.h>
#include <tarn/shm/error.hpp>

namespace tarn::shm {

/// Chunks of one size: as tarn_shm_pool.
struct pool_config {
    std::uint64_t chunk_bytes = 0;        // room for the user's header and the payload
    std::uint32_t count = 0;              // from the beginning, with memory of their own
    std::uint32_t count_most = 0;         // grows to so many, by `count` at a time; 0: does not
    std::uint32_t alignment = 0;          // of payloads: a power of two up to 2 MiB; 0: 64
    std::uint32_t user_header_bytes = 0;  // before each payload
};

/// What to create. Mistakes in it are found by segment::create().
class segment_config {
public:
    /// In any order; no two of one size and alignment; at most TARN_SHM_POOLS_MAX.
    segment_config& add_pool(pool_config const& pool) & noexcept {
        if (count_ < pools_.size()) {
            pools_[count_] = {.chunk_bytes = pool.chunk_bytes,
                              .count = pool.count,
                              .count_most = pool.count_most,
                              .alignment = pool.alignment,
                              .user_header_bytes = pool.user_header_bytes};
        }
        ++count_;
        return *this;
    }

    [[nodiscard]] segment_config&& add_pool(pool_config const& pool) && noexcept {
        return std::move(add_pool(pool));
    }

    /// Where its name is; empty: the user's own domain. tarn/shm.h says what domains there are.
    segment_config& domain(std::string_view name) & {
        domain_ = name;
        return *this;
    }

    [[nodiscard]] segment_config&& domain(std::string_view name) && {
        return std::move(domain(name));
    }

    /// Access rights: 0600, or 0660 for a group's domain.
    segment_config& mode(unsigned bits) & noexcept {
        mode_ = bits;
        return *this;
    }

    [[nodiscard]] segment_config&& mode(unsigned bits) && noexcept { return std::move(mode(bits)); }

    [[nodiscard]] std::string const& domain() const noexcept { return domain_; }

    /// For the C interface; points into this object.
    [[nodiscard]] tarn_shm_config raw() const noexcept {
        tarn_shm_config config = TARN_SHM_CONFIG_DEFAULT;
        config.pools = pools_.data();
        config.pool_count = count_;
        config.domain = domain_.empty() ? nullptr : domain_.c_str();
        config.mode = mode_;
        return config;
    }

private:
    std::array<tarn_shm_pool, TARN_SHM_POOLS_MAX> pools_{};
    std::size_t count_ = 0;
    std::string domain_;
    unsigned mode_ = 0600;
};

enum class payload_access : std::uint8_t {
    read_write,
    read_only  // payloads are mapped so that a write to them is a fault
};

struct attach_options {
    std::string domain = {};  // empty: the user's own
    std::string label = {};   // what `tarn shm who` calls this client; empty: the program's name
    payload_access payloads = payload_access::read_write;
    void* address = nullptr;  // where to map it, a page's start; null: anywhere

    /// For the C interface; points into this object.
    [[nodiscard]] tarn_shm_attaching raw() const noexcept {
        tarn_shm_attaching attaching = TARN_SHM_ATTACHING_DEFAULT;
        attaching.domain = domain.empty() ? nullptr : domain.c_str();
        attaching.label = label.empty() ? nullptr : label.c_str();
        attaching.payload_read_only = payloads == payload_access::read_only ? 1 : 0;
        attaching.address = address;
        return attaching;
    }
};

enum class when_in_use : std::uint8_t {
    refuse,  // errc::in_use, and nothing is changed
    remove   // the name goes; the memory does with the last client
};

class segment {
public:
    static constexpr uid_t any_user = static_cast<uid_t>(-1);

    segment() noexcept = default;
    segment(segment const&) = delete;
    segment& operator=(segment const&) = delete;

    segment(segment&& other) noexcept
        : client_{std::exchange(other.client_, nullptr)},
          base_{std::exchange(other.base_, nullptr)},
          bytes_{std::exchange(other.bytes_, 0)},
          id_{std::exchange(other.id_, 0)} {}

    segment& operator=(segment&& other) noexcept {
        if (this != &other) {
            detach();
            client_ = std::exchange(other.client_, nullptr);
            base_ = std::exchange(other.base_, nullptr);
            bytes_ = std::exchange(other.bytes_, 0);
            id_ = std::exchange(other.id_, 0);
        }
        return *this;
    }

    ~segment() { detach(); }

    /// Makes a segment, whole, under a name. It stays until remove().
    static result<void> create(std::string const& name, segment_config const& config) {
        tarn_shm_config const raw = config.raw();
        return done([&](tarn_shm_failure* failure) {
            return tarn_shm_create(name.c_str(), &raw, failure);
        });
    }

    static result<segment> attach(std::string const& name, attach_options const& options = {}) {
        tarn_shm_attaching const raw = options.raw();
        return attached([&](tarn_shm_failure* failure) {
            return tarn_shm_attach(name.c_str(), &raw, failure);
        });
    }

    /// Attaches it, and makes it first where there is none. Of several that do so at once, one
    /// makes it, and all attach that. The domain is the configuration's. A segment that is there
    /// already is taken as it is, whatever pools it has.
    static result<segment> create_or_attach(std::string const& name, segment_config const& config,
                                            attach_options options = {}) {
        constexpr int tries_most = 100;  // each lost to one who removed it in between
        options.domain = config.domain();
        for (int tries = 1;; ++tries) {
            result<segment> made = attach(name, options);
            if (made || tries == tries_most ||
                // in_use: of one who is removing it.
                (made.error().code != errc::not_found && made.error().code != errc::in_use)) {
                return made;
            }
            if (result<void> const created = create(name, config);
                !created && created.error().code != errc::exists) {
                return created.error();
            }
        }
    }

    /// One without a name, which lives as long as it is attached anywhere, or its descriptor is
    /// left.
    static result<segment> create_anonymous(segment_config const& config,
                                            attach_options const& options = {}) {
        tarn_shm_config const raw = config.raw();
        tarn_shm_attaching const how = options.raw();
        return attached([&](tarn_shm_failure* failure) {
            return tarn_shm_create_anonymous(&raw, &how, failure);
        });
    }

    /// Of an anonymous segment; the descriptor stays the caller's.
    static result<segment> attach_descriptor(int descriptor, attach_options const& options = {}) {
        tarn_shm_attaching const raw = options.raw();
        return attached([&](tarn_shm_failure* failure) {
            return tarn_shm_attach_descriptor(descriptor, &raw, failure);
        });
    }

    /// Attaches what send() has sent over a connected UNIX socket. errc::denied: its sender is not
    /// `of_user`.
    static result<segment> receive(int socket, attach_options const& options = {},
                                   uid_t of_user = any_user) {
        tarn_shm_failure failure;
        int const descriptor = tarn_shm_receive(socket, of_user, &failure);
        if (descriptor < 0) {
            return error{failure};
        }
        result<segment> made = attach_descriptor(descriptor, options);
        ::close(descriptor);
        return made;
    }

    /// Sends the descriptor of an anonymous segment.
    [[nodiscard]] result<void> send(int socket) const {
        return done(
            [&](tarn_shm_failure* failure) { return tarn_shm_send(socket, client_, failure); });
    }

    /// To look at a segment, without a slot: for info(), audit() and what tarn/shm.h has to see.
    static result<segment> observe(std::string const& name, std::string const& domain = {}) {
        return attached([&](tarn_shm_failure* failure) {
            return tarn_shm_observe(name.c_str(), domain.empty() ? nullptr : domain.c_str(),
                                    failure);
        });
    }

    static result<void> remove(std::string const& name, std::string const& domain = {},
                               when_in_use in_use = when_in_use::refuse) {
        return done([&](tarn_shm_failure* failure) {
            return tarn_shm_remove(name.c_str(), domain.empty() ? nullptr : domain.c_str(),
                                   in_use == when_in_use::remove ? 1 : 0, failure);
        });
    }

    /// The names of a domain's segments.
    static result<std::vector<std::string>> list(std::string const& domain = {}) {
        struct listing {
            std::vector<std::string> names;
            bool is_cut = false;
        } found;

        // Nothing may be thrown through the C function that calls this.
        auto const take = [](void* context, char const* name) noexcept {
            auto* const to = static_cast<listing*>(context);
            try {
                to->names.emplace_back(name);
            } catch (std::bad_alloc const&) {
                to->is_cut = true;
            }
            return to->is_cut ? 1 : 0;
        };
        result<void> const listed = done([&](tarn_shm_failure* failure) {
            return tarn_shm_list(domain.empty() ? nullptr : domain.c_str(), take, &found, failure);
        });
        if (!listed) {
            return listed.error();
        }
        if (found.is_cut) {
            throw std::bad_alloc{};
        }
        return std::move(found.names);
    }

    /// Removes what creations and removals left that were killed. The number of files.
    static result<int> clean(std::string const& domain = {}) {
        tarn_shm_failure failure;
        int const files = tarn_shm_clean(domain.empty() ? nullptr : domain.c_str(), &failure);
        if (files < 0) {
            return error{failure};
        }
        return files;
    }

    /// Gives back all that this client holds, as the end of the object does.
    void detach() noexcept {
        tarn_shm_detach(std::exchange(client_, nullptr));
        base_ = nullptr;
        bytes_ = 0;
        id_ = 0;
    }

    [[nodiscard]] bool has_value() const noexcept { return client_ != nullptr; }

    [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

    /// Of an anonymous segment, as long as it is attached; -1: it has a name.
    [[nodiscard]] int descriptor() const noexcept { return tarn_shm_descriptor(client_); }

    /// Cost: a look at each client.
    [[nodiscard]] tarn_shm_info info() const noexcept {
        tarn_shm_info info{};
        info.size = sizeof info;
        static_cast<void>(tarn_shm_info_get(client_, &info));
        return info;
    }

    /// What relative_ptr names it by.
    [[nodiscard]] std::uint32_t id() const noexcept { return id_; }

    /// Where it is mapped.
    [[nodiscard]] std::byte const* base() const noexcept { return base_; }

    [[nodiscard]] std::uint64_t mapped_bytes() const noexcept { return bytes_; }

    /// Looks for clients that died, and takes back what they held. The number of them.
    [[nodiscard]] result<int> recover() const noexcept {
        int const found = tarn_shm_recover(client_);
        if (found < 0) {
            return static_cast<errc>(-found);
        }
        return found;
    }

    /// The same, as soon as one dies; waits for that, at most so long. For a thread of its own.
    [[nodiscard]] result<int> housekeep(std::chrono::milliseconds most) const noexcept {
        constexpr std::int64_t most_ms = TARN_SHM_WAIT_FOR_EVER;
        int const found = tarn_shm_housekeep(
            client_,
            static_cast<std::uint32_t>(std::clamp<std::int64_t>(most.count(), 0, most_ms)));
        if (found < 0) {
            return static_cast<errc>(-found);
        }
        return found;
    }

    /// Calls visit(char const* text) for each fault; it may not throw. The number of faults.
    template <class Visit>
    [[nodiscard]] int audit(Visit visit) const noexcept {
        return tarn_shm_audit(
            client_,
            [](void* context, char const* text) noexcept { (*static_cast<Visit*>(context))(text); },
            &visit);
    }

    [[nodiscard]] int audit() const noexcept { return tarn_shm_audit(client_, nullptr, nullptr); }

    /// For the C interface.
    [[nodiscard]] tarn_shm* handle() const noexcept { return client_; }

private:
    explicit segment(tarn_shm* client) noexcept : client_{client} {
        tarn_shm_info const about = info();
        base_ = static_cast<std::byte const*>(about.base);
        bytes_ = about.mapped_bytes;
        id_ = about.id;
    }

    template <class Call>
    static result<void> done(Call call) noexcept {
        tarn_shm_failure failure;
        if (call(&failure) != TARN_SHM_OK) {
            return error{failure};
        }
        return {};
    }

    template <class Call>
    static result<segment> attached(Call call) noexcept {
        tarn_shm_failure failure;
        tarn_shm* const client = call(&failure);
        if (client == nullptr) {
            return error{failure};
        }
        return segment{client};
    }

    tarn_shm* client_ = nullptr;
    std::byte const* base_ = nullptr;
    std::uint64_t bytes_ = 0;
    std::uint32_t id_ = 0;
};

}  // namespace tarn::shm
