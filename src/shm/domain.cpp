#include "shm/domain.hpp"

#include <cerrno>
#include <cstring>

#include "base/text.hpp"

namespace tarn::impl::shm {

namespace {

constexpr std::size_t id_digits = 4;
constexpr std::uint32_t others_may_write = 0002;
constexpr std::uint32_t anybody_else = 0077;
// A lock that is in the way is held over a few system calls.
constexpr int lock_tries = 1000;

bool is_name_character(char one) noexcept {
    return (one >= 'a' && one <= 'z') || (one >= 'A' && one <= 'Z') || (one >= '0' && one <= '9') ||
           one == '-' || one == '_' || one == '.';
}

bool is_id_link(char const* file_name) noexcept {
    if (file_name[0] != '#' || std::strlen(file_name) != 1 + id_digits) {
        return false;
    }
    for (char const* at = file_name + 1; *at != '\0'; ++at) {
        if (!((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'f'))) {
            return false;
        }
    }
    return true;
}

bool is_same(platform::file_status const& left, platform::file_status const& right) noexcept {
    return left.inode == right.inode && left.device == right.device;
}

/// Until `try_it` has the lock; EAGAIN: it was in somebody's hands all the time.
template <class Try>
int lock_soon(Try try_it) noexcept {
    int error = EAGAIN;
    for (int i = 0; i < lock_tries && error == EAGAIN; ++i) {
        error = try_it();
        if (error == EAGAIN) {
            platform::let_others_run();
        }
    }
    return error;
}

}  // namespace

id_name::id_name(std::uint32_t id) noexcept {
    base::text_sink text{text_.data(), text_.size() - 1};
    text << '#';
    text.hexadecimal(id, id_digits);
}

bool is_name(char const* file_name) noexcept {
    std::size_t length = 0;
    for (char const* at = file_name; *at != '\0'; ++at, ++length) {
        if (!is_name_character(*at)) {
            return false;
        }
    }
    return length > 0 && length < name_bytes && file_name[0] != '.';
}

int check_name(char const* name, failure_note& note) noexcept {
    if (name == nullptr) {
        return note.set(TARN_SHM_INVALID, "name: null");
    }
    if (!is_name(name)) {
        return note.set(TARN_SHM_INVALID, "name '", std::string_view{name, ::strnlen(name, 80)},
                        "': not 1 to 63 of letters, digits, '-', '_' and '.' (not first)");
    }
    return TARN_SHM_OK;
}

int domain::open(char const* name, when_missing policy, failure_note& note) noexcept {
    is_given_path_ = name != nullptr && name[0] == '/';
    std::uint32_t const user = platform::this_user();
    base::text_sink path{path_.data(), path_.size() - 1};
    path_ = {};
    if (is_given_path_) {
        path << name;
    } else {
        path << "/dev/shm/tarn." << user;
        if (name != nullptr) {
            if (!is_name(name)) {
                return note.set(TARN_SHM_INVALID, "domain '",
                                std::string_view{name, ::strnlen(name, 80)},
                                "': neither a path nor 1 to 63 letters, digits, '-', '_'");
            }
            path << '.' << name;
        }
    }
    if (path.truncated()) {
        return note.set(TARN_SHM_INVALID, "domain: its path has more than 255 bytes");
    }
    if (policy == when_missing::make && !is_given_path_) {
        int const error = platform::make_directory(path_.data(), 0700);
        if (error != 0 && error != EEXIST) {
            return note.set_system(error, "domain ", path_.data(), " cannot be made");
        }
    }
    if (int const error = directory_.open_directory(path_.data()); error != 0) {
        return note.set_system(error, "domain ", path_.data());
    }
    platform::file_status status;
    if (int const error = directory_.status(status); error != 0) {
        return note.set_system(error, "domain ", path_.data());
    }
    if (!is_given_path_ && status.owner != user) {
        return note.set(TARN_SHM_DENIED, "domain ", path_.data(), ": belongs to user ",
                        status.owner);
    }
    if ((status.mode & (is_given_path_ ? others_may_write : anybody_else)) != 0) {
        return note.set(TARN_SHM_DENIED, "domain ", path_.data(), ": others may use it");
    }
    return TARN_SHM_OK;
}

int domain::trust(platform::file_status const& status, char const* file_name,
                  failure_note& note) const noexcept {
    if (!status.is_regular) {
        return note.set(TARN_SHM_DENIED, path(), "/", file_name, ": no regular file");
    }
    if ((status.mode & others_may_write) != 0) {
        return note.set(TARN_SHM_DENIED, path(), "/", file_name, ": anybody may write to it");
    }
    if (!is_given_path_ && status.owner != platform::this_user() && status.owner != 0) {
        return note.set(TARN_SHM_DENIED, path(), "/", file_name, ": belongs to user ",
                        status.owner);
    }
    return TARN_SHM_OK;
}

int domain::open_segment(char const* file_name, platform::shared_file& file,
                         platform::file_status& status, failure_note& note) const noexcept {
    if (int const error = file.open(directory_, file_name, platform::file_access::read_write);
        error != 0) {
        return note.set_system(error, "segment ", path(), "/", file_name);
    }
    if (int const error =
            lock_soon([&] { return file.try_lock(attached_byte, platform::lock_kind::shared); });
        error != 0) {
        return error == EAGAIN
                   ? note.set(TARN_SHM_IN_USE, "segment ", path(), "/", file_name,
                              ": somebody removes it")
                   : note.set_system(error, "segment ", path(), "/", file_name, ": lock");
    }
    // Only now: nobody removes it any more without saying so.
    if (int const error = file.status(status); error != 0) {
        return note.set_system(error, "segment ", path(), "/", file_name);
    }
    platform::file_status named;
    if (platform::status_in(directory_, file_name, named) != 0 || !is_same(named, status)) {
        return note.set(TARN_SHM_NOT_FOUND, "segment ", path(), "/", file_name,
                        ": was removed just now");
    }
    return trust(status, file_name, note);
}

int domain::open_to_look(char const* file_name, platform::shared_file& file,
                         platform::file_status& status, failure_note& note) const noexcept {
    int error = file.open(directory_, file_name, platform::file_access::read_write);
    if (error == EACCES) {
        error = file.open(directory_, file_name, platform::file_access::read_only);
    }
    if (error == 0) {
        error = file.status(status);
    }
    if (error != 0) {
        return note.set_system(error, "segment ", path(), "/", file_name);
    }
    return trust(status, file_name, note);
}

int domain::remove(char const* name, bool also_in_use, failure_note& note) const noexcept {
    // Two that remove one name at once must not take the next segment's for it.
    if (int const error = lock_soon([&] { return directory_.try_lock_directory(); }); error != 0) {
        return error == EAGAIN
                   ? note.set(TARN_SHM_IN_USE, "domain ", path(), ": somebody removes a segment")
                   : note.set_system(error, "domain ", path(), ": lock");
    }
    platform::shared_file file;
    if (int const error = file.open(directory_, name, platform::file_access::read_write);
        error != 0) {
        return note.set_system(error, "segment ", path(), "/", name);
    }
    int const locking = file.try_lock(attached_byte, platform::lock_kind::exclusive);
    if (locking != 0 && locking != EAGAIN) {
        return note.set_system(locking, "segment ", path(), "/", name, ": lock");
    }
    if (locking == EAGAIN && !also_in_use) {
        return note.set(TARN_SHM_IN_USE, "segment ", path(), "/", name,
                        ": somebody is attached to it");
    }
    platform::file_status status;
    platform::file_status named;
    if (file.status(status) != 0 || platform::status_in(directory_, name, named) != 0 ||
        !is_same(named, status)) {
        return note.set(TARN_SHM_NOT_FOUND, "segment ", path(), "/", name,
                        ": was removed just now");
    }
    header read{};
    static_cast<void>(file.read(0, &read, sizeof read));
    if (int const error = platform::unlink_in(directory_, name); error != 0) {
        return note.set_system(error, "segment ", path(), "/", name, " cannot be removed");
    }
    // The last client may have left just before, when it still had its name.
    file.unlock(attached_byte);
    sweep_id(read.id);
    return TARN_SHM_OK;
}

bool domain::sweep_file(char const* id_link) const noexcept {
    platform::shared_file file;
    platform::file_status status;
    platform::file_status named;
    // What has a name is not locked at all: an attachment of it would find the lock in its way.
    return file.open(directory_, id_link, platform::file_access::read_write) == 0 &&
           file.status(status) == 0 && status.links == 1 &&
           file.try_lock(attached_byte, platform::lock_kind::exclusive) == 0 &&
           file.status(status) == 0 && status.links == 1 &&
           platform::status_in(directory_, id_link, named) == 0 && is_same(named, status) &&
           platform::unlink_in(directory_, id_link) == 0;
}

void domain::sweep_id(std::uint32_t id) const noexcept {
    if (id != 0 && id < anonymous_ids_from) {
        sweep_file(id_name{id}.get());
    }
}

int domain::sweep(failure_note& note) const noexcept {
    struct sweeping {
        domain const* in;
        int removed;
    } now{.in = this, .removed = 0};

    int stopped = 0;
    int const error = platform::list_directory(
        directory_,
        [](void* context, char const* name) {
            auto* const to = static_cast<sweeping*>(context);
            if (is_id_link(name) && to->in->sweep_file(name)) {
                ++to->removed;
            }
            return 0;
        },
        &now, stopped);
    if (error != 0) {
        note.set_system(error, "domain ", path(), " cannot be read");
        return -1;
    }
    return now.removed;
}

}  // namespace tarn::impl::shm
