#include "doctor/user.hpp"

#include <fmt/core.h>
#include <grp.h>
#include <pwd.h>

namespace tarn::doctor {

std::string user_name(uid_t user) {
    passwd const* const entry = ::getpwuid(user);  // NOLINT(concurrency-mt-unsafe): one thread
    return entry != nullptr ? entry->pw_name : fmt::format("user {}", user);
}

std::string group_name(gid_t group) {
    ::group const* const entry = ::getgrgid(group);  // NOLINT(concurrency-mt-unsafe): one thread
    return entry != nullptr ? entry->gr_name : fmt::format("group {}", group);
}

}  // namespace tarn::doctor
