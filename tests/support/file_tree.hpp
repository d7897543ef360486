// support/file_tree.hpp - file_tree: a folder of files that a test makes up, gone when it ends.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace tarn::test {

class file_tree {
public:
    file_tree() {
        std::string name = (std::filesystem::temp_directory_path() / "tarn-tree-XXXXXX").string();
        root_ = ::mkdtemp(name.data()) == nullptr ? std::string{} : name;
    }

    ~file_tree() {
        if (!root_.empty()) {
            std::error_code ignored;
            std::filesystem::remove_all(root_, ignored);
        }
    }

    file_tree(file_tree const&) = delete;
    file_tree& operator=(file_tree const&) = delete;

    /// `path` begins with '/'. Folders are made as needed. Readers see the old text or the new.
    file_tree& write(std::string_view path, std::string_view text) {
        std::filesystem::path const file = root_ + std::string{path};
        std::filesystem::create_directories(file.parent_path());
        std::filesystem::path const fresh = file.string() + ".new";
        std::ofstream{fresh} << text;
        std::filesystem::rename(fresh, file);
        return *this;
    }

    [[nodiscard]] std::string const& root() const { return root_; }

private:
    std::string root_;
};

}  // namespace tarn::test
