// shm/domain.hpp - domain: the directory in which segments have their names, and how names come
// and go.
//
// Files      NAME: a segment. #XXXX, four hexadecimal digits: the same file under its id. A file is
//            linked as #XXXX first, which claims the id, then under its name; it is unlinked the
//            other way round. So a file with a name is complete, and a #XXXX whose file has no
//            other link is rubbish, unless somebody has the attached byte: who makes or uses it.
// Threads    any; a domain belongs to one
// Source     docs/design/shm.md, "Life of a name"
#pragma once

#include <array>
#include <cstdint>

#include "platform/shared_file.hpp"
#include "shm/failure.hpp"
#include "shm/layout.hpp"

namespace tarn::impl::shm {

enum class when_missing : bool { fail, make };

/// "#00ab"
class id_name {
public:
    explicit id_name(std::uint32_t id) noexcept;

    [[nodiscard]] char const* get() const noexcept { return text_.data(); }

private:
    std::array<char, 8> text_{};
};

class domain {
public:
    /// Null: the user's own. TARN_SHM_DENIED: the directory is another's, or open to others.
    [[nodiscard]] int open(char const* name, when_missing policy, failure_note& note) noexcept;

    [[nodiscard]] platform::shared_file const& directory() const noexcept { return directory_; }

    [[nodiscard]] char const* path() const noexcept { return path_.data(); }

    /// A segment's file, with the shared lock that says somebody is attached; it still had its
    /// links after that. Files of others than the user and root are refused, but in a domain given
    /// by a path.
    [[nodiscard]] int open_segment(char const* file_name, platform::shared_file& file,
                                   platform::file_status& status,
                                   failure_note& note) const noexcept;

    /// The same to look at it, without the lock, and perhaps without the right to write.
    [[nodiscard]] int open_to_look(char const* file_name, platform::shared_file& file,
                                   platform::file_status& status,
                                   failure_note& note) const noexcept;

    [[nodiscard]] int remove(char const* name, bool also_in_use, failure_note& note) const noexcept;

    /// The number of rubbish files that were removed, or -1.
    int sweep(failure_note& note) const noexcept;

    /// For the last client of a segment whose name is gone: removes its id, too. Who still holds
    /// `file` must have given its lock back.
    void sweep_id(std::uint32_t id) const noexcept;

private:
    [[nodiscard]] int trust(platform::file_status const& status, char const* file_name,
                            failure_note& note) const noexcept;
    bool sweep_file(char const* id_link) const noexcept;

    platform::shared_file directory_;
    std::array<char, 256> path_{};
    bool is_given_path_ = false;
};

/// Letters, digits, '-', '_', and '.' but at the start.
[[nodiscard]] int check_name(char const* name, failure_note& note) noexcept;

/// Of files in a domain: whether it is a segment's name, no id.
[[nodiscard]] bool is_name(char const* file_name) noexcept;

}  // namespace tarn::impl::shm
