#include "doctor/surroundings.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "doctor/files.hpp"
#include "doctor/proc_text.hpp"

namespace tarn::doctor {

namespace {

struct variable {
    char const* name;
    char const* meaning;
};

constexpr std::array variables{
    variable{"LD_PRELOAD", "loaded before what the program needs"},
    variable{"LD_LIBRARY_PATH", "where libraries are looked for first"},
    variable{"TARN_OPTIONS", "options of Tarn"},
    variable{"TARN_MODE", "mode of Tarn"},
    variable{"GLIBC_TUNABLES", "glibc.malloc settings do nothing on Tarn"},
    variable{"MALLOC_ARENA_MAX", "glibc's, does nothing on Tarn"},
    variable{"MALLOC_TRIM_THRESHOLD_", "glibc's, does nothing on Tarn"},
    variable{"MALLOC_MMAP_THRESHOLD_", "glibc's, does nothing on Tarn"},
    variable{"MALLOC_PERTURB_", "glibc's, does nothing on Tarn"},
    variable{"MALLOC_CONF", "jemalloc's, does nothing on Tarn"},
    variable{"PYTHONMALLOC", "malloc: CPython takes all objects from malloc"},
};

}  // namespace

std::vector<std::string> preload_settings::in_effect(bool is_secure) const {
    std::vector<std::string> names;
    std::copy_if(by_variable.begin(), by_variable.end(), std::back_inserter(names),
                 [is_secure](std::string const& name) {
                     return !is_secure || name.find('/') == std::string::npos;
                 });
    names.insert(names.end(), by_file.begin(), by_file.end());
    return names;
}

preload_settings read_preload_settings(variable_lookup const& value, std::string const& root) {
    return {.by_variable = preload_names(value("LD_PRELOAD")),
            .by_file = preload_names(read_text(root + "/etc/ld.so.preload").text)};
}

std::vector<fact> describe_environment(variable_lookup const& value) {
    std::vector<fact> facts;
    for (variable const& each : variables) {
        std::string text = value(each.name);
        if (!text.empty()) {
            facts.push_back({each.name, std::move(text), each.meaning});
        }
    }
    return facts;
}

}  // namespace tarn::doctor
