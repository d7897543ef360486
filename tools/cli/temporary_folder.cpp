#include "temporary_folder.hpp"

#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "environment.hpp"

namespace tarn::cli {

temporary_folder::temporary_folder() {
    std::string const wanted = environment_value("TMPDIR");
    for (std::string_view const parent :
         {std::string_view{wanted}, std::string_view{"/tmp"}, std::string_view{"/dev/shm"}}) {
        // The path becomes part of TARN_OPTIONS, where the other two have a meaning.
        if (parent.substr(0, 1) != "/" || parent.find_first_of(",%") != std::string_view::npos) {
            continue;
        }
        std::string path = std::string{parent} + "/tarn-XXXXXX";
        if (::mkdtemp(path.data()) != nullptr) {
            path_ = path;
            return;
        }
    }
}

temporary_folder::~temporary_folder() {
    if (!path_.empty()) {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
}

}  // namespace tarn::cli
