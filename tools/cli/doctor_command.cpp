#include "doctor_command.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "doctor/diagnosis.hpp"
#include "doctor/kernel.hpp"
#include "doctor/proc_text.hpp"
#include "doctor/process.hpp"
#include "doctor/program.hpp"
#include "failure.hpp"
#include "library.hpp"

namespace tarn::cli {

namespace {

bool is_number(std::string const& text) {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](char each) { return each >= '0' && each <= '9'; });
}

doctor::tarn_library locate_library(doctor_request const& request) {
    try {
        return {.path = find_library(request.library, request.own_path), .error = {}};
    } catch (failure const& error) {
        if (!request.library.empty()) {
            throw;  // the user named it
        }
        return {.path = {}, .error = error.what()};
    }
}

doctor::diagnosis examine_process(std::string const& target) {
    auto const number = doctor::number_of(target);
    if (!number) {  // too large a number
        throw doctor::cannot_tell{fmt::format("process {}: there is none", target)};
    }
    doctor::process_facts const facts = doctor::examine_process(*number);
    doctor::diagnosis found = diagnose(facts);
    doctor::kernel_facts kernel = doctor::examine_kernel(target);
    kernel.mappings = facts.mappings;
    found.sections.push_back(describe_kernel(kernel));
    return found;
}

doctor::diagnosis examine_program(doctor_request const& request) {
    doctor::diagnosis found =
        diagnose(doctor::examine_program(request.targets[0], locate_library(request)));
    found.sections.push_back(describe_kernel(doctor::examine_kernel("self")));
    return found;
}

}  // namespace

void describe(CLI::App& command, doctor_request& request) {
    command.add_flag("--json", request.json, "Print one JSON object instead of text");
    command
        .add_option("--library", request.library,
                    "libtarn.so that would be preloaded (default: beside tarn)")
        ->type_name("PATH");
    command.add_option(
        "PROGRAM|PID", request.targets,
        "A program, as for tarn run, or the number of a process; ./123 is a program");
    command.footer(
        "Says which malloc it uses or would use, why a preload does not take, and what of the\n"
        "system matters to Tarn. Nothing is run or changed.\n"
        "Exit status: 0 when malloc is Tarn's, or would be with tarn run; 1 when it is not; 2 "
        "when\n"
        "that can't be told (no such program or process, not permitted); 125 for wrong usage.");
}

int run_doctor(doctor_request const& request) {
    if (request.targets.size() != 1) {
        throw failure{request.targets.empty()
                          ? "doctor: no program or process given; see tarn doctor --help"
                          : fmt::format("doctor: one program or process, without arguments; '{}' "
                                        "is too much",
                                        request.targets[1])};
    }
    try {
        doctor::diagnosis const found = is_number(request.targets[0])
                                            ? examine_process(request.targets[0])
                                            : examine_program(request);
        std::string const text = request.json ? format_json(found) : format_text(found);
        static_cast<void>(std::fputs(text.c_str(), stdout));
        return exit_status(found.is);
    } catch (doctor::cannot_tell const& error) {
        say(fmt::format("tarn: {}\n", error.what()));
        if (request.json) {
            doctor::diagnosis unknown;
            unknown.verdict = error.what();
            static_cast<void>(std::fputs(format_json(unknown).c_str(), stdout));
        }
        return exit_status(doctor::answer::unknown);
    }
}

}  // namespace tarn::cli
