// cli/temporary_folder.hpp - temporary_folder: a private folder that goes away with its object.
#pragma once

#include <string>

namespace tarn::cli {

class temporary_folder {
public:
    /// Makes a folder of mode 700 in TMPDIR, /tmp or /dev/shm, whichever works first.
    temporary_folder();
    ~temporary_folder();
    temporary_folder(temporary_folder const&) = delete;
    temporary_folder& operator=(temporary_folder const&) = delete;

    /// Empty when nothing is writable.
    [[nodiscard]] std::string const& path() const { return path_; }

private:
    std::string path_;
};

}  // namespace tarn::cli
