// symbolize/report_rewriter.hpp - report_rewriter: a report, line by line, with its raw frames
// resolved.
//
// Text     lines of stacks, "#N ...", and places anywhere, "0x0000... in PATH+0x1234 (build id X)".
//          One line becomes several where functions were inlined; later numbers of the stack
//          follow.
// JSON     lines that are objects: in arrays named "frames" or "stack", at any depth, objects with
//          "module" and "offset" get "function", "file" and "line"; inlined functions become
//          objects of their own before them, with "inlined": true. So does one named "site", of
//          which the innermost function is told.
// Always   what can't be resolved stays as it was, byte for byte
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "symbolize/module_symbols.hpp"
#include "symbolize/raw_frame.hpp"

namespace tarn::symbolize {

class report_rewriter {
public:
    /// `complain` is told once for each module why it can't be used, or not in full.
    using complaint = std::function<void(std::string const& module, std::string const& reason)>;

    report_rewriter(search_places places, complaint complain);
    ~report_rewriter();

    /// `line` without its end; the result may be several lines, the last without its end.
    [[nodiscard]] std::string rewrite(std::string_view line);

private:
    struct json_walk;

    [[nodiscard]] std::string rewrite_numbered(numbered_line const& line);
    [[nodiscard]] std::string rewrite_places(std::string_view line);
    [[nodiscard]] std::vector<source_frame> describe(std::string_view module,
                                                     std::string_view build_id,
                                                     std::uint64_t offset);

    search_places places_;
    complaint complain_;
    std::map<std::pair<std::string, std::string>, std::unique_ptr<module_symbols>> modules_;
    unsigned added_ = 0;  // lines of this stack
    unsigned last_number_ = 0;
};

}  // namespace tarn::symbolize
