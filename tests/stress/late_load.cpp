// late_load - loads a library of the prefixed core with dlopen in a running, threaded program.
//
//   late_load loop LIBRARY              dlopen, use, dlclose, over and over, while threads allocate
//   late_load full HOG LEFT LIBRARY     first fills the static TLS with copies of HOG, a library
//   with
//                                       16 bytes of initial-exec TLS, until fewer than LEFT + 16
//                                       bytes are left; then loads and uses LIBRARY
// Status  0 all held; else a line on stderr
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

[[noreturn]] void stop(std::string const& what) {
    std::fprintf(stderr, "late_load: %s\n", what.c_str());
    std::_Exit(1);
}

struct core_library {
    void* handle = nullptr;
    void* (*allocate)(std::size_t) = nullptr;
    void* (*reallocate)(void*, std::size_t) = nullptr;
    void (*deallocate)(void*) = nullptr;

    explicit core_library(char const* path) : handle{::dlopen(path, RTLD_NOW | RTLD_LOCAL)} {
        if (handle == nullptr) {
            stop(::dlerror());
        }
        find(allocate, "tarn_malloc");
        find(reallocate, "tarn_realloc");
        find(deallocate, "tarn_free");
    }

    void use(unsigned char value) const {
        for (std::size_t bytes = 1; bytes < 300'000; bytes = bytes * 2 + 1) {
            auto* block = static_cast<unsigned char*>(allocate(bytes));
            if (block == nullptr) {
                stop("out of memory");
            }
            std::memset(block, value, bytes);
            block = static_cast<unsigned char*>(reallocate(block, bytes + 100));
            if (block == nullptr || block[0] != value || block[bytes - 1] != value) {
                stop("content changed");
            }
            deallocate(block);
        }
    }

private:
    template <class Function>
    void find(Function& function, char const* name) {
        void* const symbol = ::dlsym(handle, name);
        if (symbol == nullptr) {
            stop(::dlerror());
        }
        std::memcpy(&function, &symbol, sizeof function);
    }
};

int load_in_a_loop(char const* path) {
    constexpr int rounds = 300;
    constexpr unsigned busy_threads = 4;
    core_library const first{path};  // its handle keeps the addresses that the threads use
    std::atomic<bool> done{false};   // relaxed: no data goes with it
    std::vector<std::thread> busy;
    for (unsigned number = 0; number < busy_threads; ++number) {
        busy.emplace_back([&, number] {
            while (!done.load(std::memory_order_relaxed)) {
                first.use(static_cast<unsigned char>(number));
            }
        });
    }
    for (int i = 0; i < rounds; ++i) {
        core_library const again{path};
        again.use(1);
        std::thread{[&] { again.use(2); }}.join();
        if (::dlclose(again.handle) != 0) {
            stop(::dlerror());
        }
    }
    if (::dlclose(first.handle) != 0) {
        stop(::dlerror());
    }
    // The library stays (it is marked nodelete), so these are still safe:
    first.use(3);
    done.store(true, std::memory_order_relaxed);
    for (std::thread& thread : busy) {
        thread.join();
    }
    return 0;
}

/// The same library once more under another name, for the loader to see another one.
std::string copy_of(char const* path, std::string const& folder, int number) {
    std::string name = folder + "/hog" + std::to_string(number) + ".so";
    int const from = ::open(path, O_RDONLY | O_CLOEXEC);
    int const to = ::open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    struct stat status = {};
    if (from < 0 || to < 0 || ::fstat(from, &status) != 0) {
        stop("cannot copy " + name);
    }
    off_t offset = 0;
    while (offset < status.st_size) {
        if (::sendfile(to, from, &offset, static_cast<std::size_t>(status.st_size - offset)) <= 0) {
            stop("cannot copy " + name);
        }
    }
    ::close(from);
    ::close(to);
    return name;
}

/// Loads up to `count` hogs; returns how many fitted.
int load_hogs(char const* path, std::string const& folder, int count) {
    for (int number = 0; number < count; ++number) {
        std::string const name = copy_of(path, folder, number);
        void* const handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
        ::unlink(name.c_str());
        if (handle == nullptr) {
            if (std::string_view{::dlerror()}.find("static TLS") == std::string_view::npos) {
                stop("a hog does not load");
            }
            return number;
        }
    }
    return count;
}

/// The number of hogs that fit, found out in a child that keeps them.
int count_hogs(char const* path, std::string const& folder) {
    constexpr int hogs_max = 1000;
    int pipe_ends[2];
    if (::pipe(pipe_ends) != 0) {
        stop("no pipe");
    }
    if (::fork() == 0) {
        int const fitting = load_hogs(path, folder, hogs_max);
        bool const told = ::write(pipe_ends[1], &fitting, sizeof fitting) == sizeof fitting;
        ::_exit(told ? 0 : 1);
    }
    int fitting = hogs_max;
    if (::read(pipe_ends[0], &fitting, sizeof fitting) != sizeof fitting || fitting == hogs_max) {
        stop("the static TLS never fills up");
    }
    return fitting;
}

int load_when_full(char const* hog, std::size_t left_bytes, char const* path) {
    constexpr std::size_t hog_bytes = 16;
    char folder[] = "/tmp/tarn_late_load_XXXXXX";
    if (::mkdtemp(folder) == nullptr) {
        stop("no temporary folder");
    }
    int const fitting = count_hogs(hog, folder);
    int const spared = static_cast<int>(left_bytes / hog_bytes);
    int const loaded = load_hogs(hog, folder, fitting - spared);
    ::rmdir(folder);
    if (loaded != fitting - spared) {
        stop("fewer hogs fit than in the child");
    }
    std::printf("%d of %d hogs loaded\n", loaded, fitting);
    core_library const core{path};
    core.use(1);
    std::thread{[&] { core.use(2); }}.join();
    return 0;
}

}  // namespace

int main(int argument_count, char** arguments) {
    std::string_view const mode = argument_count > 1 ? arguments[1] : "";
    if (mode == "loop" && argument_count == 3) {
        return load_in_a_loop(arguments[2]);
    }
    if (mode == "full" && argument_count == 5) {
        return load_when_full(arguments[2], std::strtoul(arguments[3], nullptr, 10), arguments[4]);
    }
    std::fputs("usage: late_load loop LIBRARY | full HOG LEFT LIBRARY\n", stderr);
    return 2;
}
