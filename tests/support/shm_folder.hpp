// support/shm_folder.hpp - shm_folder: a domain in memory that a test makes up, gone when it ends.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tarn::test {

class shm_folder {
public:
    shm_folder() {
        std::string name = "/dev/shm/tarn-test-XXXXXX";
        path_ = ::mkdtemp(name.data()) == nullptr ? std::string{} : name;
    }

    ~shm_folder() {
        if (!path_.empty()) {
            std::error_code ignored;
            std::filesystem::remove_all(path_, ignored);
        }
    }

    shm_folder(shm_folder const&) = delete;
    shm_folder& operator=(shm_folder const&) = delete;

    [[nodiscard]] char const* path() const { return path_.c_str(); }

    [[nodiscard]] std::size_t files() const {
        std::size_t count = 0;
        for (auto const& each : std::filesystem::directory_iterator{path_}) {
            static_cast<void>(each);
            ++count;
        }
        return count;
    }

private:
    std::string path_;
};

}  // namespace tarn::test
