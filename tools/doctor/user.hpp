// doctor/user.hpp - names of users and groups.
//
// Threads    tarn has one
#pragma once

#include <sys/types.h>

#include <string>

namespace tarn::doctor {

/// "root", or "user 1234" where it has no name.
std::string user_name(uid_t user);

/// "wheel", or "group 1234".
std::string group_name(gid_t group);

}  // namespace tarn::doctor
