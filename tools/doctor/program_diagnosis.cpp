#include <fmt/core.h>
#include <fmt/ranges.h>

#include <string>
#include <string_view>
#include <utility>

#include "doctor/program.hpp"

namespace tarn::doctor {

namespace {

std::string kind_of(object const& program) {
    elf_file const& file = program.file;
    std::string kind = fmt::format("{}-bit {}", file.bits, machine_name(file.machine));
    if (!is_readable(file)) {
        return kind;
    }
    if (file.has_interpreter) {
        return kind + ", dynamically linked";
    }
    return kind + (file.type == elf_type::shared ? ", static-pie" : ", statically linked");
}

bool is_tarn(object const& object) {
    return object.contains != nullptr && object.contains->name == tarn_name;
}

bool is_own(program_facts const& facts, object const& object) {
    return object.path == facts.program.path;
}

/// Who serves malloc today, in words.
std::string owner_text(program_facts const& facts) {
    if (!facts.malloc_owner) {
        return facts.program.contains != nullptr ? std::string{facts.program.contains->name}
                                                 : "not known";
    }
    object const& owner = *facts.malloc_owner;
    return fmt::format("{} ({})", allocator_name_of(owner),
                       is_own(facts, owner) ? "the program itself" : owner.path);
}

void check_is_program(program_facts const& facts) {
    object const& program = facts.program;
    std::string const& path = program.path;
    if (program.file.type == elf_type::other) {
        throw cannot_tell{fmt::format("{}: an ELF file, but no program", path)};
    }
    if (!is_readable(program.file)) {
        return;
    }
    if (!program.file.damage.empty()) {
        throw cannot_tell{fmt::format("{}: a damaged ELF file: {}", path, program.file.damage)};
    }
    if (program.file.type == elf_type::shared && !program.file.has_interpreter &&
        !program.file.is_pie) {
        throw cannot_tell{fmt::format("{}: a shared library, not a program", path)};
    }
    if (program.is_packed) {
        throw cannot_tell{fmt::format(
            "{}: packed by UPX, so what it contains can't be seen; unpack it (upx -d)", path)};
    }
    if (!facts.has_loader) {
        throw cannot_tell{fmt::format("{}: does not start: its loader {} is not there", path,
                                      program.file.interpreter)};
    }
    if (!facts.missing.empty()) {
        throw cannot_tell{fmt::format("{}: does not start: libraries not found: {}", path,
                                      fmt::join(facts.missing, ", "))};
    }
}

/// Why a preload does not reach the program's malloc; and what to do.
struct obstacle {
    std::string what;  // empty: none
    std::vector<std::string> reasons;
};

obstacle static_obstacle(program_facts const& facts) {
    obstacle found{"the program is statically linked", {}};
    found.reasons.emplace_back("no loader runs for it, so nothing is preloaded");
    if (facts.program.contains == nullptr && !facts.program.file.has_symbol_table) {
        found.reasons.emplace_back(
            "its symbols are stripped, so which malloc it holds can't be seen");
    }
    found.reasons.emplace_back(facts.heap_beside
                                   ? std::string{facts.heap_beside->meaning}
                                   : "link it with libtarn_override.a, or dynamically");
    return found;
}

obstacle own_malloc_obstacle(object const& program) {
    if (program.contains != nullptr && program.contains->kind == allocator_kind::sanitizer) {
        return {fmt::format("the program was built with {}", program.contains->name),
                {"the checker works only with its own malloc, which the program exports",
                 "preloaded, Tarn steps aside for it"}};
    }
    std::string const which =
        program.contains != nullptr ? fmt::format(": {}", program.contains->name) : "";
    if (program.exports_malloc) {
        return {"the program brings its own malloc" + which,
                {"the loader takes the program's own definition before any preloaded one",
                 "build it without, or link it with Tarn instead"}};
    }
    if (program.hides_malloc) {
        return {"the program calls a malloc of its own" + which,
                {"it is linked in and hidden, so only libraries would get Tarn",
                 "build it without, or link it with Tarn instead"}};
    }
    return {};
}

obstacle find_obstacle(program_facts const& facts) {
    object const& program = facts.program;
    if (!is_readable(program.file)) {
        return {fmt::format("the program is {}", kind_of(program)),
                {fmt::format("libtarn.so is 64-bit {}, so the loader ignores it",
                             machine_name(own_machine()))}};
    }
    if (!program.file.has_interpreter) {
        return static_obstacle(facts);
    }
    if (!facts.raised_by.empty()) {
        return {facts.raised_by,
                {"in a program with raised rights the loader ignores paths in LD_PRELOAD",
                 "/etc/ld.so.preload works for such programs, or link it with Tarn"}};
    }
    if (program.file.interpreter.find("ld-musl") != std::string::npos) {
        return {
            "the program is built for musl, another C library",
            {fmt::format("libtarn.so needs glibc; the loader is {}", program.file.interpreter)}};
    }
    if (obstacle own = own_malloc_obstacle(program); !own.what.empty()) {
        return own;
    }
    if (facts.sanitizer) {
        return {fmt::format("the program uses {} ({})", facts.sanitizer->contains->name,
                            facts.sanitizer->path),
                {"preloaded, Tarn steps aside for it: see docs/sanitizers.md"}};
    }
    if (!facts.library.error.empty()) {
        return {"there is no library to preload", {facts.library.error}};
    }
    return {};
}

/// What is true of a program on Tarn all the same.
void add_remarks(program_facts const& facts, diagnosis& to) {
    object const& program = facts.program;
    if (facts.malloc_owner && !is_tarn(*facts.malloc_owner) &&
        facts.malloc_owner->contains != nullptr &&
        facts.malloc_owner->contains->name != glibc_name) {
        to.reasons.push_back(
            fmt::format("a preloaded library is found before {}", facts.malloc_owner->path));
    }
    if (program.contains != nullptr && !program.exports_malloc && !is_tarn(program)) {
        to.reasons.push_back(
            fmt::format("{} is linked in under names of its own; what the program allocates "
                        "through those is not on Tarn",
                        program.contains->name));
    }
    if (program.exports_new) {
        to.reasons.emplace_back(
            "operator new is the program's own; on Tarn is what it takes from malloc");
    }
    if (!facts.through.empty()) {
        to.reasons.emplace_back("what the script starts inherits the preload");
    }
    if (facts.heap_beside) {
        to.reasons.push_back(
            fmt::format("{}: {}", facts.heap_beside->runtime, facts.heap_beside->meaning));
    }
    if (!facts.raised_for_others.empty()) {
        to.reasons.push_back(fmt::format("for other users {}, and the loader ignores the preload",
                                         facts.raised_for_others));
    }
}

section program_section(program_facts const& facts) {
    section to{"program", {}};
    for (std::string const& step : facts.through) {
        to.facts.push_back(
            {to.facts.empty() ? "script" : fmt::format("script_{}", to.facts.size() + 1), step,
             ""});
    }
    object const& program = facts.program;
    to.facts.push_back({"file", program.path, ""});
    to.facts.push_back({"kind", kind_of(program), ""});
    if (program.file.has_interpreter) {
        to.facts.push_back({"loader", program.file.interpreter, ""});
    }
    if (is_readable(program.file)) {
        to.facts.push_back({"malloc_today", owner_text(facts), "without `tarn run`"});
        to.facts.push_back({"raised_rights", facts.raised_by.empty() ? "no" : facts.raised_by, ""});
    }
    if (!facts.preload.by_file.empty()) {
        to.facts.push_back({"ld.so.preload",
                            fmt::format("{}", fmt::join(facts.preload.by_file, " ")),
                            "loaded into every program"});
    }
    to.facts.push_back(
        {"libtarn.so", facts.library.error.empty() ? facts.library.path : "not found", ""});
    return to;
}

void decide(program_facts const& facts, diagnosis& to) {
    bool const is_static = is_readable(facts.program.file) && !facts.program.file.has_interpreter;
    bool const is_linked_in = is_static && is_tarn(facts.program);
    if (is_linked_in || (facts.malloc_owner && is_tarn(*facts.malloc_owner))) {
        object const& owner = is_linked_in ? facts.program : *facts.malloc_owner;
        to.is = answer::tarn;
        to.malloc_name = tarn_name;
        to.malloc_file = owner.path;
        to.verdict = fmt::format("malloc: Tarn, without `tarn run` ({})",
                                 is_own(facts, owner) ? "linked in" : owner.path);
        return;
    }
    obstacle found = find_obstacle(facts);
    if (found.what.empty()) {
        to.is = answer::tarn;
        to.malloc_name = tarn_name;
        to.malloc_file = facts.library.path;
        to.verdict = fmt::format("malloc: would be Tarn, with `tarn run` ({})", facts.library.path);
        add_remarks(facts, to);
        return;
    }
    to.is = answer::other;
    to.verdict = fmt::format("preload would not take: {}", found.what);
    to.reasons = std::move(found.reasons);
    if (facts.malloc_owner) {
        to.malloc_name = allocator_name_of(*facts.malloc_owner);
        to.malloc_file = facts.malloc_owner->path;
    } else if (facts.program.contains != nullptr) {
        to.malloc_name = facts.program.contains->name;
        to.malloc_file = facts.program.path;
    }
}

}  // namespace

diagnosis diagnose(program_facts const& facts) {
    check_is_program(facts);
    diagnosis result;
    decide(facts, result);
    result.sections.push_back(program_section(facts));
    if (!facts.environment.empty()) {
        result.sections.push_back({"environment", facts.environment});
    }
    return result;
}

}  // namespace tarn::doctor
