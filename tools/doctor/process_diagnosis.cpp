#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "cli/report.hpp"
#include "doctor/process.hpp"

namespace tarn::doctor {

namespace {

bool is_tarn(object const& object) {
    return object.contains != nullptr && object.contains->name == tarn_name;
}

bool is_loader(object const& object) {
    std::string_view const name =
        object.file.soname.empty() ? file_name(object.path) : std::string_view{object.file.soname};
    return name.starts_with("ld-linux") || name.starts_with("ld-musl") ||
           name.starts_with("ld.so") || name.starts_with("ld64.so");
}

bool can_be_program(object const& object) {
    elf_file const& file = object.file;
    return file.type == elf_type::executable || file.is_pie ||
           (file.has_interpreter && file.soname.empty());
}

/// The process's program: what it was started as, or what a loader started by name has loaded.
object const& program_of(process_facts const& facts) {
    if (is_loader(facts.program.what)) {
        auto const loaded =
            std::find_if(facts.mapped.begin(), facts.mapped.end(), [](mapped_object const& each) {
                return each.what.was_read && can_be_program(each.what);
            });
        if (loaded != facts.mapped.end()) {
            return loaded->what;
        }
    }
    return facts.program.what;
}

using object_order = std::vector<object const*>;

bool holds(object_order const& order, object const& wanted) {
    return std::find(order.begin(), order.end(), &wanted) != order.end();
}

/// As the loader's rules have it, from what is preloaded and needed.
object_order order_by_rules(process_facts const& facts, std::vector<std::string> const& preloads) {
    auto const find = [&facts](std::string const& name, object const&) -> object const* {
        for (mapped_object const& each : facts.mapped) {
            if (answers_to(each.what, name)) {
                return &each.what;
            }
        }
        return nullptr;
    };
    return symbol_order(program_of(facts), preloads, find);
}

/// As the loader itself has it; empty when its list can't be read.
object_order order_by_link_map(process_facts const& facts) {
    object_order order;
    for (std::uint64_t const address : facts.link_map) {
        auto const lies_in = [address](mapped_object const& each) {
            return address >= each.start && address < each.end;
        };
        auto const found = std::find_if(facts.mapped.begin(), facts.mapped.end(), lies_in);
        if (lies_in(facts.program)) {
            order.push_back(&facts.program.what);
        } else if (found != facts.mapped.end()) {
            order.push_back(&found->what);
        }
    }
    return order;
}

/// A library with a malloc that nothing we see asks for: preloaded, or opened later.
object const* unexplained_malloc(process_facts const& facts, object_order const& order) {
    for (mapped_object const& each : facts.mapped) {
        if (each.what.exports_malloc && !holds(order, each.what) && !is_loader(each.what)) {
            return &each.what;
        }
    }
    return nullptr;
}

/// Who serves malloc, and how it came there.
struct served {
    object const* owner = nullptr;
    std::string how;
};

bool names(std::vector<std::string> const& list, object const& wanted) {
    return std::any_of(list.begin(), list.end(),
                       [&](std::string const& name) { return answers_to(wanted, name); });
}

std::string how_it_came(process_facts const& facts, object const& owner) {
    if (&owner == &program_of(facts)) {
        return "the program's own";
    }
    if (names(facts.preload.by_variable, owner) && !facts.is_secure.value_or(false)) {
        return "preloaded by LD_PRELOAD";
    }
    if (names(facts.preload.by_file, owner)) {
        return "preloaded by /etc/ld.so.preload";
    }
    return holds(order_by_rules(facts, {}), owner) ? "a library that the program needs"
                                                   : "preloaded; its environment no longer says so";
}

served find_owner(process_facts const& facts) {
    object_order order = order_by_link_map(facts);
    bool const is_certain = !order.empty();
    if (!is_certain) {
        order = order_by_rules(facts, facts.preload.in_effect(facts.is_secure.value_or(false)));
    }
    object const& program = program_of(facts);
    object const* const owner = malloc_owner(order);
    if (!is_certain && !facts.has_environment && owner != &program) {
        if (object const* const other = unexplained_malloc(facts, order)) {
            return {other, "taken for preloaded, since its environment can't be read"};
        }
    }
    if (owner != nullptr) {
        return {owner, how_it_came(facts, *owner)};
    }
    bool const is_static = !program.file.has_interpreter && facts.mapped.empty();
    return is_static && program.contains != nullptr ? served{&program, "linked in statically"}
                                                    : served{};
}

object const* mapped_tarn(process_facts const& facts) {
    for (mapped_object const& each : facts.mapped) {
        if (is_tarn(each.what) && each.what.exports_malloc) {
            return &each.what;
        }
    }
    return nullptr;
}

/// Why a Tarn that LD_PRELOAD or ld.so.preload names is not in the process.
std::string why_wanted_is_not_there(process_facts const& facts) {
    std::string const& name = facts.wanted->name;
    if (facts.is_secure.value_or(false) && name.find('/') != std::string::npos) {
        return fmt::format("the process runs with raised rights, so the loader ignored {}", name);
    }
    if (!is_readable(program_of(facts).file)) {
        return fmt::format("{} is for another kind of process", name);
    }
    if (!facts.wanted->is_there) {
        return fmt::format("{} is not there{}", name,
                           facts.is_in_other_namespace ? ", as the process sees the files" : "");
    }
    return fmt::format(
        "the loader was told to load {} but did not; what it printed at the start "
        "says why",
        name);
}

void explain_other(process_facts const& facts, served const& by, diagnosis& to) {
    object const& program = program_of(facts);
    if (!program.file.has_interpreter && is_readable(program.file) && facts.mapped.empty()) {
        to.reasons.emplace_back("its program is statically linked: no loader, so no preload");
    } else if (by.owner == &program) {
        to.reasons.emplace_back("the loader takes a program's own malloc before any preloaded one");
    }
    if (object const* const tarn = mapped_tarn(facts)) {
        to.reasons.push_back(fmt::format(
            "{} is mapped, but was not found first: loaded later, or named behind another library",
            tarn->path));
    } else if (facts.wanted) {
        to.reasons.push_back(why_wanted_is_not_there(facts));
    } else if (!facts.has_environment) {
        to.reasons.emplace_back("its environment can't be read, or the process has overwritten it");
    } else if (to.reasons.empty()) {
        to.reasons.emplace_back(
            "LD_PRELOAD named no libtarn.so when it was started; `tarn run` "
            "does that");
    }
}

void add_remarks(process_facts const& facts, served const& by, diagnosis& to) {
    object const& program = program_of(facts);
    if (by.owner->is_deleted) {
        to.reasons.push_back(fmt::format(
            "{} was removed or replaced since; a restart takes the new one", by.owner->path));
    }
    if (is_tarn(*by.owner) && &program != by.owner && program.hides_malloc) {
        to.reasons.emplace_back(
            "the program has a hidden malloc of its own: on Tarn are libraries");
    }
    if (own_heap const* const heap = program.runtime) {
        to.reasons.push_back(fmt::format("{}: {}", heap->runtime, heap->meaning));
    }
}

section process_section(process_facts const& facts, served const& by) {
    section to{"process", {}};
    to.facts.push_back({"number",
                        fmt::format("{} ({}, of {})", facts.number, facts.command, facts.user), "",
                        facts.number});
    object const& program = program_of(facts);
    to.facts.push_back({"program", program.path + (program.is_deleted ? " (deleted)" : ""), ""});
    if (by.owner != nullptr) {
        to.facts.push_back({"malloc_from", by.owner->path, by.how});
    }
    to.facts.push_back(
        {"order_from",
         facts.link_map.empty() ? "environment and needed libraries" : "the loader's own list",
         ""});
    std::vector<std::string> others;
    for (mapped_object const& each : facts.mapped) {
        if (each.what.exports_malloc && &each.what != by.owner && !is_loader(each.what)) {
            others.push_back(each.what.path);
        }
    }
    if (!others.empty()) {
        to.facts.push_back(
            {"other_mallocs", fmt::format("{}", fmt::join(others, ", ")), "mapped, but behind it"});
    }
    if (facts.tarn_bytes != 0) {
        to.facts.push_back({"memory_of_tarn", cli::format_bytes(facts.tarn_bytes),
                            "address space in mappings that Tarn has named", facts.tarn_bytes});
    }
    to.facts.push_back({"raised_rights",
                        !facts.is_secure   ? "not known"
                        : *facts.is_secure ? "yes"
                                           : "no",
                        facts.is_secure.value_or(false) ? "the loader ignored LD_PRELOAD" : ""});
    if (facts.is_in_other_namespace) {
        to.facts.push_back({"mount_namespace", "another", "paths are as the process sees them"});
    }
    if (!facts.preload.by_file.empty()) {
        to.facts.push_back({"ld.so.preload",
                            fmt::format("{}", fmt::join(facts.preload.by_file, " ")),
                            "loaded into every program"});
    }
    return to;
}

}  // namespace

diagnosis diagnose(process_facts const& facts) {
    served const by = find_owner(facts);
    diagnosis result;
    if (by.owner == nullptr) {
        result.is = answer::other;
        result.verdict = "malloc: not known, and not Tarn";
        explain_other(facts, by, result);
    } else {
        result.malloc_name = allocator_name_of(*by.owner);
        result.malloc_file = by.owner->path;
        result.is = is_tarn(*by.owner) ? answer::tarn : answer::other;
        result.verdict = fmt::format("malloc: {} ({})", result.malloc_name, by.owner->path);
        if (result.is == answer::other) {
            explain_other(facts, by, result);
        }
        add_remarks(facts, by, result);
    }
    result.sections.push_back(process_section(facts, by));
    if (!facts.environment.empty()) {
        result.sections.push_back({"environment", facts.environment});
    }
    return result;
}

}  // namespace tarn::doctor
