#include "compare/suite.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "cli/failure.hpp"
#include "cli/temporary_folder.hpp"
#include "compare/allocator.hpp"

namespace {

using namespace tarn::compare;
using tarn::cli::failure;

class suite : public testing::Test {
protected:
    std::vector<row> read(std::string const& text,
                          std::map<std::string, std::string> const& settings = {}) {
        std::ofstream{path_} << text;
        return read_suite(path_, &settings);
    }

    /// What reading `text` complains about, without the name of the file.
    std::string error_of(std::string const& text) {
        try {
            read(text);
        } catch (failure const& error) {
            std::string const message = error.what();
            std::string const start = "suite " + path_ + ": ";
            EXPECT_EQ(message.substr(0, start.size()), start);
            return message.substr(start.size());
        }
        return "nothing";
    }

    tarn::cli::temporary_folder folder_;
    std::string path_ = folder_.path() + "/suite.json";
};

TEST_F(suite, reads_every_key) {
    std::vector<row> const rows = read(R"({"rows": [{
        "name": "a", "group": "g", "about": "what", "command": ["{bin}/x", "{dir}/y", "{suite}/z"],
        "client": ["c"], "input": "{bin}/in", "output": "any", "rounds": 3, "time_limit_s": 7},
        {"name": "b", "command": ["x"], "figures": "ns"}]})",
                                       {{"bin", "/b{"}});
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[0].command[0], "/b{/x");  // what is put in is not read again
    EXPECT_EQ(rows[0].command[1], "{dir}/y");
    EXPECT_EQ(rows[0].command[2], folder_.path() + "/z");
    EXPECT_EQ(rows[0].client, std::vector<std::string>{"c"});
    EXPECT_EQ(rows[0].input, "/b{/in");
    EXPECT_EQ(rows[0].output, output_rule::any);
    EXPECT_EQ(rows[0].rounds, 3U);
    EXPECT_EQ(rows[0].time_limit_s, 7U);
    EXPECT_TRUE(rows[0].uses_folder);
    EXPECT_EQ(rows[1].group, "programs");
    EXPECT_EQ(rows[1].figures, "ns");
    EXPECT_FALSE(rows[1].uses_folder);
}

TEST_F(suite, names_the_row_and_the_key_that_are_wrong) {
    EXPECT_EQ(error_of(R"({"rows": 3})"), "has no list \"rows\"");
    EXPECT_EQ(error_of("[]"), "has no list \"rows\"");
    EXPECT_NE(error_of("{\"rows\": [").find("parse error at line 1"), std::string::npos);
    EXPECT_EQ(error_of(R"({"rows": [5]})"), "row 1 is not an object");
    EXPECT_EQ(error_of(R"({"rows": [{"command": ["a"]}]})"), "row 1 has no name");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r"}]})"), "row 1 (r) has no command");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r", "command": "ls"}]})"),
              "row 1 (r) command is not a list of strings");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r", "command": ["ls"], "colour": 1}]})"),
              "row 1 (r) has an unknown key 'colour'");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r", "command": ["ls"], "rounds": -1}]})"),
              "row 1 (r) rounds is not a whole number from 1 to 100000");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r", "command": ["ls"], "output": "x"}]})"),
              "row 1 (r) output is 'x', not \"same\" or \"any\"");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r", "command": ["{bin}/ls"]}]})"),
              "row 1 (r) uses {bin}, which nothing sets; --set bin=VALUE does");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r", "group": "a/b", "command": ["a"]}]})"),
              "row 1 (r) group 'a/b' is not made of letters, digits, _, + and -");
    EXPECT_EQ(error_of(R"({"rows": [{"name": "r", "command": ["a"]},
                                    {"name": "r", "command": ["a"]}]})"),
              "row 2 (r) has the name of an earlier one");
}

TEST_F(suite, a_missing_file_is_named) {
    EXPECT_THROW(read_suite(folder_.path() + "/none", nullptr), failure);
}

TEST_F(suite, other_braces_stand_for_themselves) {
    std::vector<row> const rows = read(
        R"({"rows": [{"name": "r", "command": ["{ print 1 }", "{", "${x}{}"]}]})", {{"x", "y"}});
    EXPECT_EQ(rows[0].command, (std::vector<std::string>{"{ print 1 }", "{", "$y{}"}));
}

TEST_F(suite, can_be_read_without_being_filled_in) {
    std::ofstream{path_} << R"({"rows": [{"name": "r", "command": ["{bin}/x"]}]})";
    EXPECT_EQ(read_suite(path_, nullptr)[0].command[0], "{bin}/x");
}

TEST_F(suite, selects_by_name_and_group) {
    std::vector<row> const rows = read(R"({"rows": [
        {"name": "a", "group": "g", "command": ["x"]}, {"name": "b", "group": "g", "command": ["x"]},
        {"name": "c", "group": "h", "command": ["x"]}]})");
    EXPECT_EQ(select_rows(rows, "").size(), 3U);
    EXPECT_EQ(select_rows(rows, "g").size(), 2U);
    std::vector<row> const two = select_rows(rows, "h,a");
    ASSERT_EQ(two.size(), 2U);
    EXPECT_EQ(two[0].name, "a");  // in the suite's order
    EXPECT_THROW(select_rows(rows, "a,d"), failure);
}

TEST(suite_words, folders_are_filled_in_everywhere) {
    EXPECT_EQ(with_folder("{dir}/a:{dir}/b", "/t/{dir}"), "/t/{dir}/a:/t/{dir}/b");
}

TEST(allocator_names, library_texts_are_checked) {
    allocator const good = parse_allocator("x=/proc/self/exe,A=1,B=c=d,e=f,g");
    EXPECT_EQ(good.name, "x");
    EXPECT_EQ(good.library, "/proc/self/exe");
    ASSERT_EQ(good.environment.size(), 2U);
    EXPECT_EQ(good.environment[1].first, "B");
    EXPECT_EQ(good.environment[1].second, "c=d,e=f,g");
    for (char const* const bad : {"", "x", "=x", "x=", "x=/none", "x=/proc", "x=/proc/self/exe,A",
                                  "x=/proc/self/exe,a=1", "x=/proc/self/exe,"}) {
        EXPECT_THROW(parse_allocator(bad), failure) << bad;
    }
}

TEST(allocator_names, lists_are_resolved) {
    std::vector<std::string> notes;
    std::vector<allocator> const found =
        find_allocators("own,x,tarn,glibc", {{"x", "/x.so", {}, "x 1"}}, "/tarn.so", notes);
    ASSERT_EQ(found.size(), 4U);
    EXPECT_EQ(found[0].library, "");
    EXPECT_EQ(found[1].library, "/x.so");
    EXPECT_EQ(found[2].library, "/tarn.so");
    EXPECT_NE(found[3].library.find("libc.so.6"), std::string::npos);
    EXPECT_THROW(find_allocators(",", {}, "/tarn.so", notes), failure);
    EXPECT_THROW(find_allocators("own", {{"x", "/x.so", {}, "x 1"}}, "/tarn.so", notes), failure);
    EXPECT_THROW(find_allocators("glibc,nonsense", {}, "/tarn.so", notes), failure);
    EXPECT_THROW(find_allocators("glibc,glibc", {}, "/tarn.so", notes), failure);
    EXPECT_THROW(find_allocators("", {{"tarn", "/x.so", {}, ""}}, "/tarn.so", notes), failure);
}

TEST(allocator_names, without_a_list_everything_installed_or_given_takes_part) {
    std::vector<std::string> notes;
    std::vector<allocator> const found =
        find_allocators("", {{"x", "/x.so", {}, "x 1"}}, "/tarn.so", notes);
    ASSERT_GE(found.size(), 3U);
    EXPECT_EQ(found[0].name, "glibc");
    EXPECT_EQ(found[1].name, "tarn");
    EXPECT_EQ(found.back().name, "x");
    EXPECT_EQ(found.size() - 3 + notes.size(), 4U);  // every peer is there or said to be missing
}

}  // namespace
