// The functions of tarn/shm.h that make, attach and remove segments.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>

#include "tarn/shm.h"
#include "tarn/shm/hint_bitmap.hpp"

#include "shm/client.hpp"
#include "shm/domain.hpp"
#include "shm/geometry.hpp"
#include "shm/registry.hpp"

namespace tarn::impl::shm {

namespace {

tarn_shm* handle_of(client* made) noexcept { return reinterpret_cast<tarn_shm*>(made); }

/// The text of an error names the segment so.
class segment_text {
public:
    segment_text(char const* folder, char const* name) noexcept {
        base::text_sink text{text_.data(), text_.size() - 1};
        text << "segment " << folder << name;
    }

    [[nodiscard]] char const* get() const noexcept { return text_.data(); }

private:
    std::array<char, 340> text_{};
};

int take_attaching(tarn_shm_attaching const* given, tarn_shm_attaching& taken,
                   failure_note& note) noexcept {
    taken = TARN_SHM_ATTACHING_DEFAULT;
    if (given != nullptr) {
        if (given->size != sizeof *given) {
            return note.set(TARN_SHM_INVALID, "attaching.size is not sizeof(tarn_shm_attaching)");
        }
        taken = *given;
    }
    return TARN_SHM_OK;
}

client_kind kind_of(tarn_shm_attaching const& asked) noexcept {
    return asked.payload_read_only != 0 ? client_kind::reader : client_kind::writer;
}

/// Length, memory and contents of a file that nobody else knows yet; the id is still to come.
int build(platform::shared_file& file, header& planned, char const* what,
          failure_note& note) noexcept {
    int error = file.set_length(planned.file_bytes);
    if (error == 0) {
        error = file.reserve(0, planned.payload_at);
    }
    for (std::uint32_t pool = 0; pool < planned.pool_count && error == 0; ++pool) {
        pool_row const& row = planned.pools[pool];
        error = file.reserve(row.payloads_at, row.stride * row.count);
    }
    if (error != 0) {
        return note.set_system(error, what, ": ", planned.file_bytes, " bytes in memory");
    }
    void* mapped = nullptr;
    error = file.map(planned.payload_at, planned.page_bytes, platform::file_access::read_write,
                     nullptr, mapped);
    if (error != 0) {
        return note.set_system(error, what, ": its mapping");
    }
    // What is not written is zero, and so right: truths, slots.
    auto* const start = static_cast<std::byte*>(mapped);
    auto& words = *reinterpret_cast<shared_words*>(start + planned.shared_at);
    for (std::uint32_t pool = 0; pool < planned.pool_count; ++pool) {
        pool_row const& row = planned.pools[pool];
        chunks::hint_words hints{reinterpret_cast<chunks::hint_words::word*>(start + row.hints_at),
                                 row.count};
        hints.set_all();
        words.ready[pool].store(row.count, std::memory_order_relaxed);
    }
    platform::unmap_shared(start, planned.payload_at);
    platform::process_identity const me = platform::this_process();
    planned.creator_process = static_cast<std::uint32_t>(me.process_id);
    planned.creator_user = me.user_id;
    unsigned char boot[16];
    platform::read_boot_id(boot);
    std::memcpy(planned.boot_id.data(), boot, sizeof boot);
    if (!platform::fill_random(planned.uuid.data(), planned.uuid.size())) {
        return note.set_system(errno, what, ": random numbers");
    }
    return TARN_SHM_OK;
}

int write_header(platform::shared_file const& file, header& planned, std::uint32_t id) noexcept {
    planned.id = id;
    planned.checksum = checksum_of(planned);
    return file.write(0, &planned, sizeof planned);
}

std::uint32_t first_id(header const& planned) noexcept {
    std::uint32_t random = 0;
    std::memcpy(&random, planned.uuid.data(), sizeof random);
    return random % (anonymous_ids_from - 1) + 1;
}

/// Links the file under an id that is free, and under its name.
int publish(platform::shared_file& file, domain const& in, header& planned, char const* what,
            failure_note& note) noexcept {
    char const* const name = planned.name.data();
    std::uint32_t id = first_id(planned);
    int error = EEXIST;
    for (std::uint32_t tries = 1; error == EEXIST && tries < anonymous_ids_from; ++tries) {
        id = id % (anonymous_ids_from - 1) + 1;
        error = write_header(file, planned, id);
        if (error == 0) {
            error = file.link(in.directory(), id_name{id}.get());
        }
    }
    if (error == EEXIST) {
        return note.set(TARN_SHM_TOO_MANY, what, ": no id is left in ", in.path());
    }
    if (error == 0) {
        error = file.link(in.directory(), name);
        if (error != 0) {
            static_cast<void>(platform::unlink_in(in.directory(), id_name{id}.get()));
        }
    }
    return error == 0 ? TARN_SHM_OK : note.set_system(error, what);
}

int create_named(char const* name, tarn_shm_config const& config, failure_note& note) noexcept {
    header planned;
    if (int const error = check_name(name, note); error != 0) {
        return error;
    }
    if (int const error = plan(config, platform::shared_page_bytes(), planned, note); error != 0) {
        return error;
    }
    std::memcpy(planned.name.data(), name, std::strlen(name));
    domain in;
    if (int const error = in.open(config.domain, when_missing::make, note); error != 0) {
        return error;
    }
    segment_text const what{"", name};
    platform::file_status there;
    if (platform::status_in(in.directory(), name, there) == 0) {
        return note.set_system(EEXIST, what.get(), " in ", in.path());
    }
    {
        fork_gate const closed;
        failure_note nobody{nullptr};
        static_cast<void>(in.sweep(nobody));
    }
    // Without a gate: it may take seconds.
    platform::shared_file file;
    int error = file.make_unnamed(in.directory(), config.mode);
    if (error == 0) {
        error = file.set_mode(config.mode);
    }
    if (error == 0) {
        // From its first link on, nobody takes it for rubbish while this process lives.
        error = file.try_lock(attached_byte, platform::lock_kind::shared);
    }
    if (error != 0) {
        return note.set_system(error, what.get(), " in ", in.path());
    }
    error = build(file, planned, what.get(), note);
    if (error == 0) {
        error = publish(file, in, planned, what.get(), note);
    }
    // Not by closing alone: a child that was forked meanwhile still has the file.
    file.unlock(attached_byte);
    return error;
}

client* attach_file(char const* file_name, domain const& in, tarn_shm_attaching const& asked,
                    failure_note& note) noexcept {
    segment_text const what{"", file_name};
    fork_gate const closed;
    platform::shared_file file;
    platform::file_status status;
    if (in.open_segment(file_name, file, status, note) != 0) {
        return nullptr;
    }
    client* const made = client::attach(file, status, asked, kind_of(asked), what.get(), note);
    if (made != nullptr) {
        made->note_domain(asked.domain);
    }
    return made;
}

client* attach_open(int descriptor, tarn_shm_attaching const& asked, failure_note& note) noexcept {
    fork_gate const closed;
    platform::shared_file passed_on;
    platform::shared_file file;
    platform::file_status status;
    int error = passed_on.duplicate(descriptor);
    if (error == 0) {
        error = passed_on.status(status);
    }
    if (error == 0 && (!status.is_regular || !passed_on.is_sealed())) {
        note.set(TARN_SHM_INCOMPATIBLE, "descriptor ", descriptor,
                 ": no sealed file in memory, which an anonymous segment is");
        return nullptr;
    }
    if (error == 0) {
        // Anew, since locks belong to the open file: this client's must be its own.
        error = file.reopen(descriptor, platform::file_access::read_write);
    }
    if (error != 0) {
        note.set_system(error, "descriptor ", descriptor);
        return nullptr;
    }
    error = file.try_lock(attached_byte, platform::lock_kind::shared);
    if (error != 0) {
        note.set_system(error, "descriptor ", descriptor, ": lock");
        return nullptr;
    }
    client* const made =
        client::attach(file, status, asked, kind_of(asked), "anonymous segment", note);
    if (made != nullptr) {
        made->passed_on().take(passed_on);
    }
    return made;
}

}  // namespace

}  // namespace tarn::impl::shm

using namespace tarn::impl::shm;  // NOLINT(google-build-using-namespace): only C functions follow
namespace platform = tarn::impl::platform;

extern "C" {

int tarn_shm_create(char const* name, tarn_shm_config const* config,
                    tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    return config == nullptr ? note.set(TARN_SHM_INVALID, "config: null")
                             : create_named(name, *config, note);
}

tarn_shm* tarn_shm_create_anonymous(tarn_shm_config const* config,
                                    tarn_shm_attaching const* attaching,
                                    tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    header planned;
    tarn_shm_attaching asked;
    if (config == nullptr) {
        note.set(TARN_SHM_INVALID, "config: null");
        return nullptr;
    }
    if (take_attaching(attaching, asked, note) != 0 ||
        plan(*config, platform::shared_page_bytes(), planned, note) != 0) {
        return nullptr;
    }
    platform::shared_file file;
    int error = file.make_sealable("tarn-shm");
    if (error != 0) {
        note.set_system(error, "anonymous segment");
        return nullptr;
    }
    if (build(file, planned, "anonymous segment", note) != 0) {
        return nullptr;
    }
    error = write_header(file, planned, anonymous_ids_from + first_id(planned));
    if (error == 0) {
        error = file.seal();
    }
    if (error != 0) {
        note.set_system(error, "anonymous segment");
        return nullptr;
    }
    return handle_of(attach_open(file.descriptor(), asked, note));
}

tarn_shm* tarn_shm_attach(char const* name, tarn_shm_attaching const* attaching,
                          tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    tarn_shm_attaching asked;
    domain in;
    if (take_attaching(attaching, asked, note) != 0 || check_name(name, note) != 0 ||
        in.open(asked.domain, when_missing::fail, note) != 0) {
        return nullptr;
    }
    return handle_of(attach_file(name, in, asked, note));
}

tarn_shm* tarn_shm_attach_descriptor(int descriptor, tarn_shm_attaching const* attaching,
                                     tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    tarn_shm_attaching asked;
    return take_attaching(attaching, asked, note) != 0
               ? nullptr
               : handle_of(attach_open(descriptor, asked, note));
}

int tarn_shm_descriptor(tarn_shm* handle) TARN_NOEXCEPT {
    return reinterpret_cast<client*>(handle)->passed_on().descriptor();
}

int tarn_shm_send(int socket, tarn_shm* handle, tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    int const descriptor = tarn_shm_descriptor(handle);
    if (descriptor < 0) {
        return note.set(TARN_SHM_INVALID, "the segment has a name: send that");
    }
    int const error = platform::send_descriptor(socket, descriptor);
    return error == 0 ? TARN_SHM_OK : note.set_system(error, "socket ", socket);
}

int tarn_shm_receive(int socket, uint32_t of_user, tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    int descriptor = -1;
    std::uint32_t user = 0;
    if (int const error = platform::receive_descriptor(socket, descriptor, user); error != 0) {
        note.set_system(error, "socket ", socket);
        return -1;
    }
    if (of_user != UINT32_MAX && user != of_user) {
        platform::shared_file{descriptor}.close();
        note.set(TARN_SHM_DENIED, "socket ", socket, ": its other side is user ", user);
        return -1;
    }
    return descriptor;
}

void tarn_shm_detach(tarn_shm* handle) TARN_NOEXCEPT {
    if (handle != nullptr) {
        fork_gate const closed;
        reinterpret_cast<client*>(handle)->leave();
    }
}

int tarn_shm_remove(char const* name, char const* domain_name, int also_in_use,
                    tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    domain in;
    if (int const error = check_name(name, note); error != 0) {
        return error;
    }
    if (int const error = in.open(domain_name, when_missing::fail, note); error != 0) {
        return error;
    }
    fork_gate const closed;
    return in.remove(name, also_in_use != 0, note);
}

tarn_shm* tarn_shm_observe(char const* name, char const* domain_name,
                           tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    domain in;
    fork_gate const closed;
    platform::shared_file file;
    platform::file_status status;
    if (check_name(name, note) != 0 || in.open(domain_name, when_missing::fail, note) != 0 ||
        in.open_to_look(name, file, status, note) != 0) {
        return nullptr;
    }
    tarn_shm_attaching const asked = TARN_SHM_ATTACHING_DEFAULT;
    segment_text const what{"", name};
    return handle_of(client::attach(file, status, asked, client_kind::observer, what.get(), note));
}

int tarn_shm_clean(char const* domain_name, tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    domain in;
    fork_gate const closed;
    return in.open(domain_name, when_missing::fail, note) != 0 ? -1 : in.sweep(note);
}

int tarn_shm_list(char const* domain_name, int (*receive)(void* context, char const* name),
                  void* context, tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    domain in;
    if (int const error = in.open(domain_name, when_missing::fail, note); error != 0) {
        return error;
    }

    struct listing {
        int (*receive)(void* context, char const* name);
        void* context;
    } to{.receive = receive, .context = context};

    int stopped = 0;
    int const error = platform::list_directory(
        in.directory(),
        [](void* of, char const* name) {
            auto* const told = static_cast<listing*>(of);
            return is_name(name) ? told->receive(told->context, name) : 0;
        },
        &to, stopped);
    return error == 0 ? TARN_SHM_OK : note.set_system(error, "domain ", in.path());
}

uint64_t tarn_shm_relative(void const* pointer) TARN_NOEXCEPT { return relative_of(pointer); }

void* tarn_shm_absolute(uint64_t relative, uint64_t bytes, uint64_t alignment) TARN_NOEXCEPT {
    constexpr std::uint64_t offset_bits = 48;
    auto const id = static_cast<std::uint32_t>(relative >> offset_bits);
    std::uint64_t const offset = relative & (segment_bytes_most - 1);
    if (id == 0 || (alignment != 0 && offset % alignment != 0)) {
        return nullptr;
    }
    std::byte* const found = find_mapped(id, offset, bytes);
    return found != nullptr || is_mapped(id) ? found : map_and_find(id, offset, bytes);
}

int tarn_shm_map_on_demand(char const* domain_name, tarn_shm_failure* failure) TARN_NOEXCEPT {
    failure_note note{failure};
    return demand_from(domain_name, note);
}

void tarn_shm_unmap_all(void) TARN_NOEXCEPT { unmap_demanded(); }

char const* tarn_shm_error_text(int error) TARN_NOEXCEPT {
    switch (error) {
        case TARN_SHM_OK:
            return "no error";
        case TARN_SHM_INVALID:
            return "invalid argument";
        case TARN_SHM_NOT_FOUND:
            return "no such segment";
        case TARN_SHM_EXISTS:
            return "the segment exists";
        case TARN_SHM_FULL:
            return "the file system is full";
        case TARN_SHM_NO_MEMORY:
            return "no memory or address space";
        case TARN_SHM_DENIED:
            return "access denied";
        case TARN_SHM_INCOMPATIBLE:
            return "no segment, or of another version";
        case TARN_SHM_DAMAGED:
            return "the segment is damaged";
        case TARN_SHM_TOO_MANY:
            return "too many clients or segments";
        case TARN_SHM_IN_USE:
            return "the segment is in use";
        case TARN_SHM_EXHAUSTED:
            return "no chunk is free";
        case TARN_SHM_TOO_LARGE:
            return "no pool has chunks so large";
        case TARN_SHM_STALE:
            return "the chunk was released by all";
        case TARN_SHM_NOT_HELD:
            return "the chunk is not held";
        case TARN_SHM_READ_ONLY:
            return "the client may only read";
        case TARN_SHM_FORKED:
            return "the client is the parent process's";
        case TARN_SHM_SYSTEM:
            return "the system refused";
        default:
            return "unknown error";
    }
}

}  // extern "C"
