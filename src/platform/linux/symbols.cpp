#include "platform/symbols.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>

#include "base/errno_keeper.hpp"
#include "base/text.hpp"
#include "base/units.hpp"
#include "platform/backtrace/island.hpp"
#include "platform/linux/guarded_call.hpp"
#include "platform/linux/linux_os.hpp"
#include "platform/linux/loaded_module.hpp"

namespace tarn::impl::platform {

namespace {

constexpr std::size_t function_bytes_max = 2 * KiB;
constexpr std::size_t file_bytes_max = 1 * KiB;
constexpr std::size_t mangled_bytes_max = 4 * KiB;  // the demangler's stack is 100 times that
constexpr std::uint32_t frames_max = 64;            // of one call
constexpr std::size_t stack_bytes = 4 * MiB;
constexpr std::size_t result_bytes = 511 * KiB;

// What is found, in memory that the guarded process writes even where it has a copy of the rest.

struct found_frame {
    std::uint32_t call;
    std::uint32_t line;
    std::uint32_t function_bytes;
    std::uint32_t file_bytes;
    bool is_inlined;
    // function and file follow
};

constexpr std::size_t record_bytes_max = sizeof(found_frame) + function_bytes_max + file_bytes_max;

struct findings {
    std::size_t calls_done;    // whose frames are complete
    std::size_t bytes_done;    // of them
    std::size_t bytes;         // with those of the call at hand
    std::size_t memory_bytes;  // of tables that stay
    std::uint64_t at_module;   // the fingerprint of what is being read; 0: none
    bool is_complete;          // the process came to its end
    std::array<char, result_bytes> texts;
};

struct workspace {
    static constexpr std::size_t guard_bytes = 64 * KiB;  // the largest OS page

    union {
        findings found;
        std::array<std::byte, 512 * KiB> room;
    };

    std::array<std::byte, guard_bytes> guard;  // below the stack
    std::array<std::byte, stack_bytes> stack;
};

static_assert(sizeof(findings) <= 512 * KiB);
static_assert(offsetof(workspace, guard) % workspace::guard_bytes == 0);
static_assert(offsetof(workspace, stack) % 16 == 0);

/// Modules whose files were the end of a guarded process: not tried again.
class avoided_modules {
public:
    [[nodiscard]] bool contain(std::uint64_t fingerprint) const noexcept {
        return std::find(fingerprints_.begin(), fingerprints_.end(), fingerprint) !=
               fingerprints_.end();
    }

    void add(std::uint64_t fingerprint) noexcept {
        fingerprints_[count_++ % fingerprints_.size()] = fingerprint;
    }

private:
    std::array<std::uint64_t, 16> fingerprints_{};
    std::size_t count_ = 0;
};

constinit avoided_modules avoided;

// One thread at a time. Not a ranked_mutex: it is waited for a bounded time, and a child of a fork
// that finds it held by a thread it has not takes it over.
constinit std::atomic<std::uint32_t> user{0};         // process id; 0: nobody
constinit std::atomic<std::uint32_t> user_thread{0};  // of that process

bool take_turn() noexcept {
    constexpr std::uint32_t step_ms = 10;
    std::uint32_t const process = linux_os::process_id();
    std::uint32_t const self = linux_os::thread_id();
    for (std::uint32_t waited = 0;; waited += step_ms) {
        std::uint32_t seen = 0;
        // acquire: pairs with the release in end_turn(). relaxed: nothing is read then.
        if (user.compare_exchange_strong(seen, process, std::memory_order_acquire,
                                         std::memory_order_relaxed)) {
            break;
        }
        // relaxed: nobody of that process is here, and this one has not begun.
        if (seen != process &&
            user.compare_exchange_strong(seen, process, std::memory_order_relaxed,
                                         std::memory_order_relaxed)) {
            ::tarn_symbols_abandon();  // half changed, perhaps
            break;
        }
        // relaxed: only the thread itself writes its own number, and none other is compared.
        if (user_thread.load(std::memory_order_relaxed) == self || waited >= wait_ms_max) {
            return false;
        }
        linux_os::wait_for(user, seen, step_ms);
    }
    user_thread.store(self, std::memory_order_relaxed);
    return true;
}

void end_turn() noexcept {
    user_thread.store(0, std::memory_order_relaxed);
    // release: pairs with the acquire in take_turn(); makes what the island keeps visible.
    user.store(0, std::memory_order_release);
    linux_os::wake_one(user);
}

// What runs in the guarded process.

/// Turns the answers about one call into frames.
class call_reader {
public:
    call_reader(findings& to, std::size_t call) noexcept
        : to_{to}, call_{static_cast<std::uint32_t>(call)}, last_{to.bytes} {}

    void add_source(char const* function, char const* path, unsigned line) noexcept {
        if (count_ < frames_max && append(function, path, line)) {
            ++count_;
        }
    }

    /// The symbol of the outermost function tells its scope and arguments where the debug
    /// information, as that of GCC for functions of one file, has but the last part of its name.
    void add_symbol(char const* name) noexcept {
        if (count_ == 0) {
            add_source(name, nullptr, 0);
            return;
        }
        found_frame const frame = read(last_);
        char const* const text = to_.texts.data() + last_ + sizeof frame;
        std::array<char, function_bytes_max> known;
        std::array<char, file_bytes_max> path;
        std::memcpy(known.data(), text, frame.function_bytes);
        std::memcpy(path.data(), text + frame.function_bytes, frame.file_bytes);
        std::string_view const function{known.data(), frame.function_bytes};
        to_.bytes = last_;
        append(name, {path.data(), frame.file_bytes}, frame.line);
        found_frame const changed = read(last_);
        std::string_view const better{text, changed.function_bytes};
        if (better.find(function) == std::string_view::npos ||
            function.find('(') != function.npos) {
            to_.bytes = last_;  // another function's, or no better
            append([&](base::text_sink& to) noexcept { to << function; },
                   {path.data(), frame.file_bytes}, frame.line);
        }
    }

    /// False: there was no room for all.
    [[nodiscard]] bool finish() noexcept {
        if (count_ != 0) {
            found_frame outermost = read(last_);
            outermost.is_inlined = false;
            std::memcpy(to_.texts.data() + last_, &outermost, sizeof outermost);
        }
        return !is_full_;
    }

private:
    [[nodiscard]] found_frame read(std::size_t at) const noexcept {
        found_frame frame;
        std::memcpy(&frame, to_.texts.data() + at, sizeof frame);
        return frame;
    }

    bool append(char const* function, char const* path, unsigned line) noexcept {
        std::string_view const file = path == nullptr ? std::string_view{} : path;
        return append(function, file, line);
    }

    bool append(char const* function, std::string_view path, unsigned line) noexcept {
        return append([&](base::text_sink& to) noexcept { write_function(function, to); }, path,
                      line);
    }

    /// `write_name` writes the function's.
    template <class Writer>
    bool append(Writer write_name, std::string_view path, unsigned line) noexcept {
        std::size_t const room = to_.texts.size() - to_.bytes;
        if (room < 2 * record_bytes_max) {
            is_full_ = true;
            return false;
        }
        char* const start = to_.texts.data() + to_.bytes;
        base::text_sink text{start + sizeof(found_frame), function_bytes_max};
        write_name(text);
        std::size_t const function_bytes = text.view().size();
        base::text_sink file{start + sizeof(found_frame) + function_bytes, file_bytes_max};
        file << path;
        std::size_t const file_bytes = file.view().size();
        found_frame const frame{.call = call_,
                                .line = line,
                                .function_bytes = static_cast<std::uint32_t>(function_bytes),
                                .file_bytes = static_cast<std::uint32_t>(file_bytes),
                                .is_inlined = true};
        std::memcpy(start, &frame, sizeof frame);
        last_ = to_.bytes;
        to_.bytes += (sizeof frame + function_bytes + file_bytes + 7) & ~std::size_t{7};
        return true;
    }

    static void write_function(char const* name, base::text_sink& to) noexcept {
        if (name == nullptr) {
            return;
        }
        auto const write = [](char const* text, std::size_t bytes, void* sink) {
            *static_cast<base::text_sink*>(sink) << std::string_view{text, bytes};
        };
        std::size_t const bytes = ::strnlen(name, mangled_bytes_max);
        if (bytes == mangled_bytes_max || !::tarn_symbols_demangle(name, write, &to)) {
            to.clear();
            to << std::string_view{name, bytes};
        }
    }

    findings& to_;
    std::uint32_t call_;
    std::size_t last_;  // the frame added last
    std::uint32_t count_ = 0;
    bool is_full_ = false;
};

struct lookup {
    std::span<void const* const> addresses;
    findings* found;
};

/// A module's file and its name, opened only for the first query.
class module_file {
public:
    explicit module_file(loaded_module const& of) noexcept {
        std::size_t const bytes = read_path(of, path_.data(), path_.size() - 1);
        path_[bytes] = '\0';
        fd_ = open_file_of(of, path_.data());
        if (fd_ < 0) {
            fd_ = open_file_of(of, "/proc/self/exe");  // the program's, even when it is deleted
        }
    }

    ~module_file() { linux_os::close_file(fd_); }

    module_file(module_file const&) = delete;
    module_file& operator=(module_file const&) = delete;

    [[nodiscard]] char const* path() const noexcept { return path_.data(); }

    [[nodiscard]] int fd() const noexcept { return fd_; }

private:
    std::array<char, code_place::path_bytes_max> path_;
    int fd_ = -1;
};

void ask(void* file, char const* path, int fd, loaded_module const& module, std::uintptr_t address,
         call_reader& reader) noexcept {
    tarn_symbols_query const query{
        .file = file,
        .path = path,
        .fd = fd,
        .base = module.base,
        .address = address,
        .context = &reader,
        .source =
            [](void* to, char const* function, char const* source, unsigned line) noexcept {
                static_cast<call_reader*>(to)->add_source(function, source, line);
            },
        .symbol =
            [](void* to, char const* name) noexcept {
                static_cast<call_reader*>(to)->add_symbol(name);
            }};
    ::tarn_symbols_ask(&query);
}

void look_up_in(loaded_module const& module, std::uintptr_t address, call_reader& reader) noexcept {
    void* known = nullptr;
    if (::tarn_symbols_known(module.fingerprint, &known)) {
        if (known != nullptr) {
            ask(known, "", -1, module, address, reader);
        }
        return;
    }
    module_file const file{module};
    void* const opened =
        ::tarn_symbols_open(module.fingerprint, file.fd() < 0 ? nullptr : file.path());
    if (opened != nullptr) {
        ask(opened, file.path(), file.fd(), module, address, reader);
    }
}

void look_up_all(void* argument) noexcept {
    auto const& what = *static_cast<lookup const*>(argument);
    findings& found = *what.found;
    while (found.calls_done < what.addresses.size()) {
        // The call, not the instruction behind it, which may belong to another line or function.
        auto const address = reinterpret_cast<std::uintptr_t>(what.addresses[found.calls_done]) - 1;
        loaded_module module;
        call_reader reader{found, found.calls_done};
        if (find_module(reinterpret_cast<void const*>(address), module) &&
            !avoided.contain(module.fingerprint)) {
            found.at_module = module.fingerprint;
            look_up_in(module, address, reader);
            found.at_module = 0;
        }
        if (!reader.finish() && found.calls_done != 0) {
            found.bytes = found.bytes_done;  // it is the first of the next round
            break;
        }
        found.bytes_done = found.bytes;
        ++found.calls_done;
    }
    found.memory_bytes = ::tarn_symbols_bytes();
    found.is_complete = true;
}

// What runs in the calling thread.

// By syscall(): wrappers that other libraries put around libc's functions may allocate.

workspace* map_workspace() noexcept {
    // Shared: where the guarded process has a copy of our memory, its findings still reach us.
    long const mapped = ::syscall(SYS_mmap, nullptr, sizeof(workspace), PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
    if (mapped == -1) {
        return nullptr;
    }
    auto* const made = reinterpret_cast<workspace*>(mapped);
    ::syscall(SYS_mprotect, made->guard.data(), made->guard.size(), PROT_NONE);
    return made;
}

void unmap(workspace* space) noexcept { ::syscall(SYS_munmap, space, sizeof(workspace)); }

void visit_plainly(std::span<void const* const> addresses, std::size_t first, std::size_t count,
                   frame_visitor visit) noexcept {
    for (std::size_t i = first; i < first + count; ++i) {
        code_place const place = place_of(addresses[i]);
        visit({.call = i, .return_address = addresses[i], .place = &place});
    }
}

/// Visits the calls of `addresses` whose findings are complete. `first`: how many came before.
void visit_found(std::span<void const* const> addresses, findings const& found, std::size_t first,
                 frame_visitor visit) noexcept {
    std::size_t at = 0;
    for (std::size_t i = 0; i < found.calls_done; ++i) {
        code_place const place = place_of(addresses[i]);
        source_frame frame{.call = first + i, .return_address = addresses[i], .place = &place};
        bool is_known = false;
        found_frame read{};
        while (at < std::min(found.bytes_done, found.texts.size() - record_bytes_max)) {
            std::memcpy(&read, found.texts.data() + at, sizeof read);
            if (read.call != i || read.function_bytes > function_bytes_max ||
                read.file_bytes > file_bytes_max) {
                break;
            }
            char const* const text = found.texts.data() + at + sizeof read;
            frame.function = {text, read.function_bytes};
            frame.file = {text + read.function_bytes, read.file_bytes};
            frame.line = read.line;
            frame.is_inlined = read.is_inlined;
            visit(frame);
            is_known = true;
            at += (sizeof read + read.function_bytes + read.file_bytes + 7) & ~std::size_t{7};
        }
        if (!is_known) {
            visit(frame);
        }
    }
}

/// After the process's end before its time: what it was doing is not done again.
void give_up_on(std::uint64_t fingerprint) noexcept {
    ::tarn_symbols_release();
    if (fingerprint != 0) {
        avoided.add(fingerprint);
    }
}

void keep_only_small(std::size_t memory_bytes) noexcept {
    if (memory_bytes > kept_bytes_max) {
        ::tarn_symbols_release();
    }
}

/// Returns how many of the addresses were visited.
std::size_t look_up_guarded(std::span<void const* const> addresses, workspace& space,
                            frame_visitor visit) noexcept {
    std::uint64_t const start = linux_os::monotonic_ms();
    std::size_t visited = 0;
    // Each round visits one address at least, or avoids one module more.
    constexpr unsigned failures_max = 4;
    for (unsigned failures = 0; visited < addresses.size() && failures < failures_max;) {
        std::uint64_t const spent = linux_os::monotonic_ms() - start;
        if (spent >= lookup_ms_max) {
            break;
        }
        findings& found = space.found;
        found.calls_done = found.bytes_done = found.bytes = 0;
        found.at_module = 0;
        found.is_complete = false;
        lookup what{.addresses = addresses.last(addresses.size() - visited), .found = &found};
        if (!call_guarded(&look_up_all, &what, space.stack,
                          lookup_ms_max - static_cast<std::uint32_t>(spent))) {
            break;
        }
        visit_found(what.addresses, found, visited, visit);
        visited += found.calls_done;
        if (found.is_complete) {
            keep_only_small(found.memory_bytes);
        } else {
            give_up_on(found.at_module);
            ++failures;
        }
    }
    return visited;
}

}  // namespace

void describe_calls(std::span<void const* const> return_addresses, frame_visitor visit) noexcept {
    base::errno_keeper const kept;
    std::size_t visited = 0;
    if (take_turn()) {
        workspace* const space = map_workspace();
        if (space != nullptr) {
            visited = look_up_guarded(return_addresses, *space, visit);
            unmap(space);
        }
        end_turn();
    }
    visit_plainly(return_addresses, visited, return_addresses.size() - visited, visit);
}

void release_symbols() noexcept {
    base::errno_keeper const kept;
    if (take_turn()) {
        avoided = {};
        ::tarn_symbols_release();
        end_turn();
    }
}

}  // namespace tarn::impl::platform
