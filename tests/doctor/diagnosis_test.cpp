#include "doctor/diagnosis.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "doctor/kernel.hpp"
#include "doctor/process.hpp"
#include "doctor/program.hpp"

namespace {

using namespace tarn::doctor;

bool contains(std::string const& text, std::string const& part) {
    return text.find(part) != std::string::npos;
}

object some_object(std::string path, char const* allocator = nullptr) {
    object result;
    result.path = std::move(path);
    result.was_read = true;
    result.file.bits = 64;
    result.file.machine = own_machine();
    result.file.type = elf_type::shared;
    if (allocator != nullptr) {
        result.contains = allocator_called(allocator);
        result.exports_malloc = true;
    }
    return result;
}

program_facts some_program() {
    program_facts facts;
    facts.program = some_object("/bin/program");
    facts.program.file.has_interpreter = true;
    facts.program.file.is_pie = true;
    facts.program.file.interpreter = "/lib64/ld-linux-x86-64.so.2";
    facts.library.path = "/opt/libtarn.so";
    facts.malloc_owner = some_object("/lib/libc.so.6", "libc.so.6");
    return facts;
}

void expect_obstacle(program_facts const& facts, std::string const& part) {
    diagnosis const found = diagnose(facts);
    EXPECT_EQ(found.is, answer::other) << found.verdict;
    EXPECT_TRUE(contains(found.verdict, "preload would not take: ")) << found.verdict;
    EXPECT_TRUE(contains(found.verdict, part)) << found.verdict;
    EXPECT_FALSE(found.reasons.empty());
}

TEST(program_diagnosis, of_a_common_program) {
    diagnosis const found = diagnose(some_program());
    EXPECT_EQ(found.is, answer::tarn);
    EXPECT_EQ(found.verdict, "malloc: would be Tarn, with `tarn run` (/opt/libtarn.so)");
    EXPECT_EQ(found.malloc_file, "/opt/libtarn.so");
    EXPECT_EQ(exit_status(found.is), 0);
}

TEST(program_diagnosis, of_obstacles) {
    program_facts facts = some_program();
    facts.raised_by = "it is set-user-ID to root";
    expect_obstacle(facts, "set-user-ID to root");

    facts = some_program();
    facts.program.file.interpreter = "/lib/ld-musl-x86_64.so.1";
    expect_obstacle(facts, "musl");

    facts = some_program();
    facts.program.file.bits = 32;
    facts.program.file.machine = EM_386;
    expect_obstacle(facts, "32-bit x86");

    facts = some_program();
    facts.program.file.has_interpreter = false;
    expect_obstacle(facts, "statically linked");

    facts = some_program();
    facts.program.exports_malloc = true;
    facts.program.contains = allocator_called("libjemalloc.so.2");
    facts.malloc_owner = facts.program;
    expect_obstacle(facts, "its own malloc: jemalloc");

    facts = some_program();
    facts.program.hides_malloc = true;
    expect_obstacle(facts, "calls a malloc of its own");

    facts = some_program();
    facts.sanitizer = some_object("/lib/libasan.so.8", "libasan.so.8");
    expect_obstacle(facts, "AddressSanitizer (/lib/libasan.so.8)");

    facts = some_program();
    facts.library = {.path = "", .error = "libtarn.so not found"};
    expect_obstacle(facts, "no library");
}

TEST(program_diagnosis, of_programs_that_have_tarn_anyway) {
    program_facts facts = some_program();
    facts.malloc_owner = some_object("/lib/libtarn.so.0", "libtarn.so.0");
    facts.raised_by = "it is set-user-ID to root";  // linked, so it does not matter
    EXPECT_EQ(diagnose(facts).verdict, "malloc: Tarn, without `tarn run` (/lib/libtarn.so.0)");
    facts = some_program();
    facts.malloc_owner.reset();
    facts.program.file.has_interpreter = false;
    facts.program.contains = allocator_called("libtarn.so");
    EXPECT_EQ(diagnose(facts).verdict, "malloc: Tarn, without `tarn run` (linked in)");
}

TEST(program_diagnosis, remarks) {
    program_facts facts = some_program();
    facts.malloc_owner = some_object("/lib/libjemalloc.so.2", "libjemalloc.so.2");
    facts.raised_for_others = "it is set-group-ID to mail";
    facts.heap_beside = *own_heap_called(".go.buildinfo");
    facts.program.contains = allocator_called("libmimalloc.so");
    facts.program.exports_new = true;
    diagnosis const found = diagnose(facts);
    EXPECT_EQ(found.is, answer::tarn);
    std::string const text = format_text(found);
    for (char const* part : {"before /lib/libjemalloc.so.2", "set-group-ID to mail", "Go objects",
                             "mimalloc is linked in", "operator new"}) {
        EXPECT_TRUE(contains(text, part)) << text;
    }
}

TEST(program_diagnosis, of_what_is_no_program) {
    auto const complaint = [](program_facts const& facts) -> std::string {
        try {
            return "none: " + diagnose(facts).verdict;
        } catch (cannot_tell const& error) {
            return error.what();
        }
    };
    program_facts facts = some_program();
    facts.program.file.type = elf_type::other;
    EXPECT_TRUE(contains(complaint(facts), "/bin/program: an ELF file, but no program"));
    facts = some_program();
    facts.program.file.has_interpreter = false;
    facts.program.file.is_pie = false;
    EXPECT_TRUE(contains(complaint(facts), "a shared library"));
    facts.program.file.is_pie = true;
    facts.program.is_packed = true;
    EXPECT_TRUE(contains(complaint(facts), "UPX"));
    facts = some_program();
    facts.program.file.damage = "it is bent";
    EXPECT_TRUE(contains(complaint(facts), "damaged ELF file: it is bent"));
    facts = some_program();
    facts.has_loader = false;
    EXPECT_TRUE(contains(complaint(facts), "ld-linux-x86-64.so.2 is not there"));
    facts = some_program();
    facts.missing = {"libodd.so.1"};
    EXPECT_TRUE(contains(complaint(facts), "libodd.so.1"));
}

process_facts some_process() {
    process_facts facts;
    facts.number = 17;
    facts.command = "program";
    facts.user = "somebody";
    facts.is_secure = false;
    facts.program = {some_object("/bin/program"), 100, 200};
    facts.program.what.file.has_interpreter = true;
    facts.program.what.file.needed = {"libc.so.6"};
    facts.mapped = {{some_object("/lib/libc.so.6", "libc.so.6"), 1000, 2000}};
    return facts;
}

void add_tarn(process_facts& facts) {
    facts.mapped.push_back({some_object("/opt/libtarn.so.0", "libtarn.so.0"), 3000, 4000});
}

TEST(process_diagnosis, of_glibc) {
    diagnosis const found = diagnose(some_process());
    EXPECT_EQ(found.is, answer::other);
    EXPECT_EQ(found.verdict, "malloc: glibc (/lib/libc.so.6)");
    ASSERT_EQ(found.reasons.size(), 1U);
    EXPECT_TRUE(contains(found.reasons[0], "LD_PRELOAD named no libtarn.so"));
    EXPECT_EQ(exit_status(found.is), 1);
}

TEST(process_diagnosis, of_a_preload) {
    process_facts facts = some_process();
    add_tarn(facts);
    facts.preload.by_variable = {"/link/to/libtarn.so.0"};
    diagnosis found = diagnose(facts);
    EXPECT_EQ(found.verdict, "malloc: Tarn (/opt/libtarn.so.0)");
    EXPECT_TRUE(contains(format_text(found), "preloaded by LD_PRELOAD"));
    facts.mapped.back().what.is_deleted = true;
    EXPECT_TRUE(contains(format_text(diagnose(facts)), "was removed or replaced since"));

    facts = some_process();
    add_tarn(facts);
    facts.preload.by_file = {"/opt/libtarn.so.0"};
    facts.is_secure = true;
    found = diagnose(facts);
    EXPECT_EQ(found.is, answer::tarn);
    EXPECT_TRUE(contains(format_text(found), "preloaded by /etc/ld.so.preload"));
}

TEST(process_diagnosis, of_the_loaders_own_list) {
    process_facts facts = some_process();
    add_tarn(facts);
    facts.has_environment = false;
    facts.link_map = {150, 3500, 1500};  // program, Tarn, libc
    EXPECT_EQ(diagnose(facts).verdict, "malloc: Tarn (/opt/libtarn.so.0)");
    facts.link_map = {150, 1500, 3500};  // opened late
    EXPECT_EQ(diagnose(facts).verdict, "malloc: glibc (/lib/libc.so.6)");
    facts.link_map.clear();
    diagnosis const guessed = diagnose(facts);
    EXPECT_EQ(guessed.is, answer::tarn);
    EXPECT_TRUE(contains(format_text(guessed), "taken for preloaded"));
}

TEST(process_diagnosis, of_preloads_that_did_not_take) {
    auto const reasons = [](process_facts const& facts) {
        diagnosis const found = diagnose(facts);
        EXPECT_EQ(found.is, answer::other) << found.verdict;
        return format_text(found);
    };
    process_facts facts = some_process();
    facts.preload.by_variable = {"/opt/libtarn.so"};
    facts.wanted = wanted_tarn{"/opt/libtarn.so", true};
    EXPECT_TRUE(contains(reasons(facts), "the loader was told to load /opt/libtarn.so"));
    facts.wanted->is_there = false;
    EXPECT_TRUE(contains(reasons(facts), "/opt/libtarn.so is not there"));
    facts.is_secure = true;
    EXPECT_TRUE(contains(reasons(facts), "raised rights"));

    facts = some_process();
    add_tarn(facts);
    EXPECT_TRUE(contains(reasons(facts), "/opt/libtarn.so.0 is mapped, but was not found first"));

    facts = some_process();
    facts.program.what.exports_malloc = true;
    EXPECT_TRUE(contains(reasons(facts), "a program's own malloc"));

    facts = some_process();
    facts.mapped.clear();
    facts.program.what.file.has_interpreter = false;
    EXPECT_TRUE(contains(reasons(facts), "statically linked"));
    facts.program.what.contains = allocator_called("libc.so.6");
    EXPECT_TRUE(contains(reasons(facts), "malloc: glibc"));
}

TEST(process_diagnosis, of_a_loader_started_by_name) {
    process_facts facts = some_process();
    mapped_object loaded = facts.program;
    loaded.what.file.is_pie = true;
    facts.program = {some_object("/lib64/ld-linux-x86-64.so.2"), 5000, 6000};
    facts.mapped.insert(facts.mapped.begin(), loaded);
    diagnosis const found = diagnose(facts);
    EXPECT_EQ(found.verdict, "malloc: glibc (/lib/libc.so.6)");
    EXPECT_TRUE(contains(format_text(found), "program               /bin/program"));
}

kernel_facts some_kernel() {
    kernel_facts facts;
    facts.release = "6.1.0";
    facts.page_bytes = 4096;
    facts.huge_pages = "madvise";
    facts.overcommit_mode = "0";
    facts.mappings_max = 65530;
    facts.address_space = {.is_known = true, .value = std::nullopt};
    return facts;
}

std::string kernel_text(kernel_facts const& facts) {
    diagnosis found;
    found.sections.push_back(describe_kernel(facts));
    return format_text(found);
}

TEST(kernel, says_what_its_settings_mean) {
    kernel_facts facts = some_kernel();
    std::string text = kernel_text(facts);
    for (char const* part :
         {"page size             4.0 KiB", "madvise - Tarn asks", "heuristic", "at most 65530",
          "memory cgroup         none", "unlimited", "MADV_COLLAPSE         there"}) {
        EXPECT_TRUE(contains(text, part)) << text;
    }
    facts.page_bytes = 65536;
    facts.overcommit_mode = "2";
    facts.commit_limit_bytes = 3 << 20;
    facts.mappings = 60'000;
    facts.group = {.version = 2,
                   .folder = "/x",
                   .memory_bytes = 1 << 20,
                   .memory_high_bytes = 512 << 10,
                   .processors = 1.5};
    facts.address_space.value = 1 << 30;
    facts.features.collapse = ENOSYS;
    facts.features.name = EPERM;
    text = kernel_text(facts);
    for (char const* part :
         {"only with 4 KiB", "strict - of 3.0 MiB", "60000 of at most 65530 - near the limit",
          "version 2, at most 1.0 MiB", "512.0 KiB", "1.50 processors",
          "1.0 GiB - Tarn reserves less", "MADV_COLLAPSE         not there", "refused ("}) {
        EXPECT_TRUE(contains(text, part)) << text;
    }
}

TEST(kernel, can_be_examined) {
    kernel_facts const facts = examine_kernel("self");
    EXPECT_GE(facts.page_bytes, 4096U);
    EXPECT_NE(facts.release, "");
    EXPECT_NE(facts.mappings_max, 0U);
    EXPECT_TRUE(facts.address_space.is_known);
}

TEST(diagnosis, is_json_whatever_it_holds) {
    diagnosis found;
    found.is = answer::tarn;
    found.verdict = "bad \xff byte";
    found.sections = {{"part", {{"fact", "\x1b[2J", "means", 5}}}};
    auto const json = nlohmann::json::parse(format_json(found));
    EXPECT_EQ(json.at("answer"), "tarn");
    EXPECT_EQ(json.at("part").at("fact").at("number"), 5);
    EXPECT_EQ(json.at("part").at("fact").at("meaning"), "means");
    EXPECT_FALSE(contains(format_text(found), "\x1b"));
    EXPECT_EQ(exit_status(answer::unknown), 2);
}

}  // namespace
