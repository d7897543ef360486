// A connection and its requests: each has a region, and nothing is freed one by one.
#include <unistd.h>

#include <cstdio>
#include <memory_resource>
#include <string_view>
#include <vector>

#include <tarn/region.hpp>

namespace {

/// Everything made here is gone when `request` is, also when an exception ends it.
std::string_view answer(tarn::region& request, std::string_view path) {
    std::pmr::vector<std::string_view> parts{request.resource()};
    for (std::size_t at = 0; at < path.size();) {
        std::size_t const slash = path.find('/', at + 1);
        parts.push_back(path.substr(at + 1, slash - at - 1));
        at = slash;
    }
    return request.format("%zu parts, the last is %s", parts.size(),
                          request.copy(parts.back()).data());
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): who has no memory for a connection ends
int main() {
    int socket[2];
    if (::pipe(socket) != 0) {
        return 1;
    }

    tarn::region connection{{.reserve_bytes = 256, .name = "connection"}};
    for (int const fd : socket) {
        // Also in a child that starts another program: it calls connection.run_exec_cleanups().
        connection.on_release_or_exec([fd] { ::close(fd); });
    }
    connection.on_release([] { std::puts("connection closed"); });

    std::size_t held = 0;
    for (std::string_view const path : {"/a/b/index", "/image", "/a/b/c/d"}) {
        tarn::region request = connection.make_child({.name = "request"});
        request.on_release([path] { std::printf("done: %s\n", path.data()); });
        try {
            std::puts(answer(request, path).data());
        } catch (std::bad_alloc const&) {
            std::puts(connection.error_text("no memory for %s", path.data()).data());
            return 1;
        }
        // The second request takes the memory that the first one has left.
        std::size_t const now = request.statistics().held_bytes + request.statistics().kept_bytes;
        if (held != 0 && now != held) {
            return 1;
        }
        held = now;
    }
    std::printf("requests left: %zu\n", connection.statistics().children);
}
