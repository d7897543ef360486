// Handles that know when their element is gone.
#include <cstdio>
#include <string>

#include <tarn/handle_table.hpp>

int main() {
    tarn::object_pool<std::string> names{{.name = "names"}};
    tarn::handle_table<std::string> table{names};

    tarn::element_handle<std::string> const ada = table.new_element("Ada");
    tarn::element_handle<std::string> const alan = table.new_element("Alan");
    std::printf("%s and %s\n", table.get(ada)->c_str(), table.get(alan)->c_str());

    table.delete_element(ada);
    // In the same memory, but nobody mistakes it for Ada.
    tarn::element_handle<std::string> const grace = table.new_element("Grace");
    std::printf("Ada: %s\n", table.get(ada) == nullptr ? "gone" : "here");
    return table.get(ada) == nullptr && *table.get(grace) == "Grace" ? 0 : 1;
}
