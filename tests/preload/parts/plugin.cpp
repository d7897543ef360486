// plugin.cpp - a library that allocates when loaded, when used, when a thread ends, when unloaded.
#include <map>
#include <string>
#include <vector>

static std::map<int, std::string> table = [] {
    std::map<int, std::string> made;
    for (int i = 0; i < 300; ++i) {
        made[i] = std::string(static_cast<std::size_t>(i), 'p');
    }
    return made;
}();

static thread_local std::vector<std::string> of_thread;

extern "C" std::size_t plugin_use(int seed) {
    std::size_t bytes = 0;
    for (int i = 0; i < 300; ++i) {
        of_thread.push_back(table[(i + seed) % 300]);
        bytes += of_thread.back().size();
    }
    return bytes;
}
