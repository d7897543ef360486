// compare/suite.hpp - what is to be run: rows, from a file or from one command line.
//
// A suite is JSON: {"rows": [{...}, ...]}. A row's keys:
//   name      its heading; unique
//   group     rows with the same are shown together; a word or several
//   about     one line on what it does
//   command   the program and its arguments
//   client    a command to run beside it, not on the malloc compared; must end with status 0
//   input     file that is its standard input; none if missing
//   output    "same" (must be the same in every run; the default) or "any"
//   figures   "ns", say: the program's output is lines `NAME VALUE UNIT`; each with this unit is a
//             row of its own, and the time of the whole is not compared
//   rounds    how often it is run on each allocator, if less than asked for
//   time_limit_s  after which a run counts as hung; 120
// In command, client and input, {suite} is the folder of the file and {KEY} what `--set KEY=VALUE`
// says; in command and client {dir} is a folder that each run gets new and empty. KEY is a word of
// letters, digits and _; other braces stand for themselves.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace tarn::compare {

enum class output_rule { same, any };

struct row {
    std::string name;
    std::string group;
    std::string about;
    std::vector<std::string> command;
    std::vector<std::string> client;
    std::string input;
    output_rule output = output_rule::same;
    std::string figures;
    std::size_t rounds = 0;  // 0: as many as asked for
    std::size_t time_limit_s = 120;
    bool uses_folder = false;  // {dir} is in command or client
};

using suite_settings = std::map<std::string, std::string>;

/// Reads a suite and fills in all but {dir}; with no settings at all, nothing. Throws cli::failure,
/// which names file, row and key.
std::vector<row> read_suite(std::string const& path, suite_settings const* settings);

/// Keeps the rows whose name or group `names` lists, separated by commas; an empty list keeps all.
/// Throws cli::failure for a name that is neither.
std::vector<row> select_rows(std::vector<row> rows, std::string const& names);

/// `text` with every {dir} replaced.
std::string with_folder(std::string text, std::string const& folder);

}  // namespace tarn::compare
