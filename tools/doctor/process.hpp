// doctor/process.hpp - what malloc a running process uses, and why not Tarn.
//
// Threads    one
// Always     only reads /proc and files; the process is not stopped
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "doctor/diagnosis.hpp"
#include "doctor/object.hpp"
#include "doctor/surroundings.hpp"

namespace tarn::doctor {

/// A file of code in the process's memory.
struct mapped_object {
    object what;
    std::uint64_t start = 0;
    std::uint64_t end = 0;
};

/// Of a name in LD_PRELOAD that means Tarn.
struct wanted_tarn {
    std::string name;
    bool is_there = true;  // the file exists, as the process sees it
};

struct process_facts {
    std::uint64_t number = 0;
    std::string command;
    std::string user;
    mapped_object program;                // may be the loader, when that was started by name
    std::vector<mapped_object> mapped;    // the others, by address
    std::vector<std::uint64_t> link_map;  // see doctor/link_map.hpp; empty: can't be read
    std::optional<bool> is_secure;        // not known where auxv can't be read
    bool has_environment = true;          // false: unreadable, or overwritten by the process
    bool is_in_other_namespace = false;   // sees other files than we do
    preload_settings preload;
    std::optional<wanted_tarn> wanted;
    std::vector<fact> environment;
    std::uint64_t mappings = 0;
    std::uint64_t tarn_bytes = 0;  // in mappings that Tarn has named
};

/// Throws cannot_tell: no such process, not permitted, ended meanwhile, a kernel thread.
process_facts examine_process(std::uint64_t number);

/// Pure. Throws cannot_tell.
diagnosis diagnose(process_facts const& facts);

}  // namespace tarn::doctor
