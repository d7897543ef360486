#include "doctor/files.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

namespace tarn::doctor {

namespace {

constexpr std::size_t copied_bytes_max = std::size_t{64} << 20;
constexpr std::string_view packer_mark = "UPX!";  // near the start of a packed program
constexpr std::size_t packer_mark_before = 4096;

/// An open file; closes itself.
class descriptor {
public:
    explicit descriptor(std::string const& path)
        // A FIFO must not keep us waiting.
        : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) {}

    ~descriptor() {
        if (number_ >= 0) {
            ::close(number_);
        }
    }

    descriptor(descriptor const&) = delete;
    descriptor& operator=(descriptor const&) = delete;

    [[nodiscard]] int number() const { return number_; }

private:
    int number_;
};

/// Appends what can be read, up to `bytes_max`. Returns errno, 0 for success.
int read_all(int from, std::string& to, std::size_t bytes_max) {
    std::array<char, 65536> buffer{};
    while (to.size() < bytes_max) {
        ssize_t const got =
            ::read(from, buffer.data(), std::min(buffer.size(), bytes_max - to.size()));
        if (got == 0) {
            return 0;
        }
        if (got > 0) {
            to.append(buffer.data(), static_cast<std::size_t>(got));
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

}  // namespace

text_file read_text(std::string const& path, std::size_t bytes_max) {
    descriptor const file{path};
    if (file.number() < 0) {
        return {.text = {}, .error = errno};
    }
    text_file result;
    result.error = read_all(file.number(), result.text, bytes_max);
    if (result.error != 0) {
        result.text.clear();
    }
    return result;
}

file_bytes::file_bytes(std::string const& path) {
    struct stat status {};

    if (::stat(path.c_str(), &status) != 0) {  // first: opening a device may do something
        error_ = errno;
        return;
    }
    if (!S_ISREG(status.st_mode)) {
        error_ = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
        return;
    }
    descriptor const file{path};
    if (file.number() < 0) {
        error_ = errno;
        return;
    }
    auto const size = static_cast<std::size_t>(status.st_size);
    if (size <= copied_bytes_max) {
        error_ = read_all(file.number(), copy_, copied_bytes_max);
        return;
    }
    void* const base = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number(), 0);
    if (base == MAP_FAILED) {
        error_ = errno;
        return;
    }
    mapped_ = static_cast<std::byte const*>(base);
    mapped_bytes_ = size;
}

file_bytes::~file_bytes() {
    if (mapped_ != nullptr) {
        ::munmap(const_cast<std::byte*>(mapped_), mapped_bytes_);
    }
}

std::span<std::byte const> file_bytes::bytes() const {
    return mapped_ != nullptr ? std::span{mapped_, mapped_bytes_}
                              : std::as_bytes(std::span{copy_.data(), copy_.size()});
}

std::optional<object> read_object(std::string const& where, std::string path) {
    if (read_text(where, SELFMAG).text != ELFMAG) {
        return std::nullopt;  // before all of a large file is read
    }
    file_bytes const contents{where};
    auto const file = read_elf(contents.bytes());
    if (!file) {
        return std::nullopt;
    }
    object result = describe_object(std::move(path), *file);
    std::span<std::byte const> const bytes = contents.bytes();
    std::string_view const start{reinterpret_cast<char const*>(bytes.data()),
                                 std::min(bytes.size(), packer_mark_before)};
    result.is_packed = !result.file.has_interpreter && start.find(packer_mark) != start.npos;
    return result;
}

}  // namespace tarn::doctor
