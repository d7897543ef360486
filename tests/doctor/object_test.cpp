#include "doctor/object.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "doctor/elf_image.hpp"

namespace {

using namespace tarn::doctor;
using tarn::test::image_plan;
using tarn::test::image_writer;

object object_with(image_plan const& plan) {
    auto const image = image_writer::write(plan);
    auto const file = read_elf(image);
    return describe_object("/bin/program", file.value());
}

TEST(object, knows_allocators_by_symbols) {
    struct expectation {
        char const* symbol;
        char const* name;
    };

    for (auto const& [symbol, name] :
         {expectation{"mallctlnametomib", "jemalloc"}, expectation{"mi_malloc", "mimalloc"},
          expectation{"tc_malloc", "tcmalloc"}, expectation{"__TBB_malloc_proxy", "tbbmalloc"},
          expectation{"tarn_malloc", "Tarn"}, expectation{"__asan_init", "AddressSanitizer"},
          expectation{"_ZN8snmalloc5alloc", "snmalloc"}, expectation{"__libc_malloc", "glibc"}}) {
        image_plan plan;
        plan.dynamic_symbols = {{symbol}, {"malloc"}};
        object const found = object_with(plan);
        EXPECT_TRUE(found.exports_malloc);
        ASSERT_NE(found.contains, nullptr) << symbol;
        EXPECT_EQ(found.contains->name, name);
    }
}

TEST(object, tells_a_definition_from_a_use) {
    image_plan plan;
    plan.dynamic_symbols = {{"malloc", false}, {"mi_malloc", false}};
    object const user = object_with(plan);
    EXPECT_FALSE(user.exports_malloc);
    EXPECT_FALSE(user.hides_malloc);
    EXPECT_EQ(user.contains, nullptr);
    plan.dynamic_symbols = {{"malloc", true, STB_GLOBAL, STV_HIDDEN}};
    plan.symbols = {{"malloc"}, {"je_malloc"}};
    object const hiding = object_with(plan);
    EXPECT_FALSE(hiding.exports_malloc);
    EXPECT_TRUE(hiding.hides_malloc);
    EXPECT_EQ(allocator_name_of(hiding), "jemalloc");
}

TEST(object, has_a_malloc_of_its_own) {
    image_plan plan;
    plan.dynamic_symbols = {{"malloc"}, {"free"}};
    EXPECT_EQ(allocator_name_of(object_with(plan)), "a malloc of its own in program");
}

TEST(object, knows_runtimes) {
    image_plan plan;
    plan.needed = {"libpython3.11.so.1.0"};
    object const embedding = object_with(plan);
    ASSERT_NE(embedding.runtime, nullptr);
    EXPECT_EQ(embedding.runtime->runtime, "CPython");
}

TEST(object, knows_libraries_by_name_alone) {
    EXPECT_EQ(allocator_name_of(describe_unread_object("/x/libtarn.so.0.1.0")), "Tarn");
    EXPECT_FALSE(describe_unread_object("/x/libtarn_core.so.0").exports_malloc);
    EXPECT_FALSE(describe_unread_object("/x/libm.so.6").exports_malloc);
}

TEST(object, answers_to_names) {
    object library;
    library.path = "/opt/libtarn.so.0.1.0";
    library.file.soname = "libtarn.so.0";
    EXPECT_TRUE(answers_to(library, "libtarn.so.0"));
    EXPECT_TRUE(answers_to(library, "/elsewhere/libtarn.so.0"));
    EXPECT_TRUE(answers_to(library, "/opt/libtarn.so.0.1.0"));
    EXPECT_FALSE(answers_to(library, "libtarn.so.1"));
    EXPECT_FALSE(answers_to(library, ""));
    EXPECT_FALSE(answers_to(library, "/"));
}

/// Objects by name, and the order in which they are found.
class order : public testing::Test {
protected:
    void add(std::string const& name, std::vector<std::string> needed, bool has_malloc = false) {
        object& each = objects_[name];
        each.path = name;
        each.file.needed = std::move(needed);
        each.exports_malloc = has_malloc;
    }

    std::vector<object const*> find(std::vector<std::string> const& preloads) {
        return symbol_order(objects_["program"], preloads,
                            [this](std::string const& name, object const&) -> object const* {
                                auto const found = objects_.find(name);
                                return found == objects_.end() ? nullptr : &found->second;
                            });
    }

    std::string text(std::vector<std::string> const& preloads) {
        std::string all;
        for (object const* each : find(preloads)) {
            all += each->path + " ";
        }
        return all;
    }

private:
    std::map<std::string, object> objects_;
};

TEST_F(order, is_breadth_first_with_preloads_before) {
    add("program", {"a", "b"});
    add("a", {"c"});
    add("b", {"missing", "c", "a"});
    add("c", {"libc"}, true);
    add("libc", {}, true);
    add("p", {"q"});
    add("q", {});
    EXPECT_EQ(text({}), "program a b c libc ");
    EXPECT_EQ(text({"p", "none"}), "program p a b q c libc ");
    EXPECT_EQ(malloc_owner(find({}))->path, "c");
    EXPECT_EQ(malloc_owner(find({"libc"}))->path, "libc");
}

TEST_F(order, ends_where_libraries_need_each_other) {
    add("program", {"a"});
    add("a", {"b", "program"});
    add("b", {"a"});
    EXPECT_EQ(text({}), "program a b ");
    EXPECT_EQ(malloc_owner(find({})), nullptr);
}

}  // namespace
