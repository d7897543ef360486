// doctor/kernel.hpp - what of the kernel and its limits matters to Tarn.
//
// Threads    any
// Always     changes nothing: features are tried on a scratch mapping of our own
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "doctor/diagnosis.hpp"
#include "doctor/proc_text.hpp"

namespace tarn::doctor {

/// errno of trying a feature; 0: it works.
struct feature_errors {
    int collapse = 0;
    int move = 0;  // MREMAP_DONTUNMAP
    int name = 0;
    int populate = 0;
    int membarrier = 0;
};

struct group_limits {
    unsigned version = 0;  // 0: no such group
    std::string folder;
    std::optional<std::uint64_t> memory_bytes;  // the least of the group and those above it
    std::optional<std::uint64_t> memory_high_bytes;
    std::optional<double> processors;
};

struct kernel_facts {
    std::string release;
    std::uint64_t page_bytes = 0;
    std::string huge_pages;  // empty: the kernel has none
    std::string huge_pages_defrag;
    std::string overcommit_mode;
    std::uint64_t commit_limit_bytes = 0;
    std::uint64_t committed_bytes = 0;
    std::uint64_t mappings_max = 0;
    std::optional<std::uint64_t> mappings;  // of the process asked about
    group_limits group;
    bool has_pressure = false;
    limit address_space;
    limit data;
    limit locked;
    feature_errors features;
};

/// `process`: whose limits, a number or "self".
kernel_facts examine_kernel(std::string const& process);

/// Pure.
section describe_kernel(kernel_facts const& facts);

}  // namespace tarn::doctor
