// doctor/program.hpp - what malloc a program would use, before it is started.
//
// Threads    one
// Always     only reads; the program is not run, nor its loader
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "doctor/diagnosis.hpp"
#include "doctor/object.hpp"
#include "doctor/surroundings.hpp"

namespace tarn::doctor {

/// The libtarn.so that would be preloaded.
struct tarn_library {
    std::string path;
    std::string error;  // why there is none
};

struct program_facts {
    std::string asked;                 // as the user named it
    std::vector<std::string> through;  // scripts on the way to the program, in words
    object program;
    bool has_loader = true;         // the interpreter that it names exists
    std::string raised_by;          // why the loader would be in secure mode; empty: it would not
    std::string raised_for_others;  // the same for other users than the caller
    preload_settings preload;
    std::vector<fact> environment;
    tarn_library library;
    std::vector<std::string> missing;     // libraries that the loader would not find
    std::optional<object> malloc_owner;   // who would serve malloc without Tarn's help
    std::optional<object> sanitizer;      // a library whose checker needs its own malloc
    std::optional<own_heap> heap_beside;  // of the program or its libraries
};

/// `asked`: a path, or a name to look for in PATH. Throws cannot_tell.
program_facts examine_program(std::string const& asked, tarn_library library);

/// Pure. Throws cannot_tell.
diagnosis diagnose(program_facts const& facts);

}  // namespace tarn::doctor
