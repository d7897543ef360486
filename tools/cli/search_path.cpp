#include "search_path.hpp"

#include <unistd.h>

#include <sstream>
#include <system_error>

#include "environment.hpp"

namespace tarn::cli {

namespace fs = std::filesystem;

fs::path search_path(std::string const& name) {
    if (name.find('/') != std::string::npos) {
        return name;
    }
    std::istringstream list{environment_value("PATH")};
    for (std::string folder; std::getline(list, folder, ':');) {
        fs::path candidate = fs::path{folder.empty() ? "." : folder} / name;
        std::error_code ignored;
        if (fs::is_regular_file(candidate, ignored) && ::access(candidate.c_str(), X_OK) == 0) {
            return candidate;
        }
    }
    return {};
}

}  // namespace tarn::cli
