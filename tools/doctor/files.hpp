// doctor/files.hpp - reads files of the system, which may be missing, forbidden or odd.
//
// Threads    any
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "doctor/object.hpp"

namespace tarn::doctor {

/// The contents of a file, or why there are none.
struct text_file {
    std::string text;
    int error = 0;  // errno; then `text` is empty
};

inline constexpr std::size_t text_bytes_max = std::size_t{16} << 20;

/// Reads a file as small as those of /proc and /sys, or the start of one.
text_file read_text(std::string const& path, std::size_t bytes_max = text_bytes_max);

/// A file's bytes, mapped for reading. A file that shrinks meanwhile could end us by SIGBUS; so
/// files up to 64 MiB are copied.
class file_bytes {
public:
    explicit file_bytes(std::string const& path);
    ~file_bytes();
    file_bytes(file_bytes const&) = delete;
    file_bytes& operator=(file_bytes const&) = delete;

    /// errno of what failed; 0 when the bytes are there.
    [[nodiscard]] int error() const { return error_; }

    [[nodiscard]] std::span<std::byte const> bytes() const;

private:
    std::string copy_;
    std::byte const* mapped_ = nullptr;
    std::size_t mapped_bytes_ = 0;
    int error_ = 0;
};

/// The ELF file at `where`, called `path` in what is said of it. Nothing when it is no ELF file or
/// can't be read.
std::optional<object> read_object(std::string const& where, std::string path);

}  // namespace tarn::doctor
