// A program whose stack is known: reporter raw|resolved|json|place [LIBRARY]. Writes a report of it
// without, or with, what the process knows about itself.
#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "platform/code_place.hpp"
#include "platform/symbols_text.hpp"
#include "support/known_calls.hpp"

namespace {

using namespace tarn::impl;
using tarn::test::known_call;

std::string text_of(std::string_view text) { return std::string{text}; }

std::string place_text(void const* address) {
    base::text_buffer<2048> text;
    platform::describe_place(address, text);
    return text_of(text.view());
}

void write_raw(std::vector<known_call> const& calls) {
    for (std::size_t i = 0; i < calls.size(); ++i) {
        std::printf("    #%zu %s\n", i, place_text(calls[i].address).c_str());
    }
}

void write_resolved(std::vector<known_call> const& calls) {
    std::vector<void const*> addresses;
    for (known_call const& call : calls) {
        addresses.push_back(call.address);
    }
    static base::text_buffer<64 * 1024> text;
    platform::describe_stack(addresses, text, 4);
    std::printf("%s", text_of(text.view()).c_str());
}

void write_json(std::vector<known_call> const& calls) {
    std::printf(R"({"kind":"leak","bytes":18446744073709551615,"stack":{"frames":[)");
    for (std::size_t i = 0; i < calls.size(); ++i) {
        platform::code_place const place = platform::place_of(calls[i].address);
        std::printf(R"(%s{"address":"%p","module":"%s","offset":"0x%zx","build_id":"%s"})",
                    i == 0 ? "" : ",", calls[i].address, text_of(place.module()).c_str(),
                    static_cast<std::size_t>(place.offset), text_of(place.build_id()).c_str());
    }
    std::printf("]},\"end\":true}\n");
}

void add_calls_of(char const* library, std::vector<known_call>& to) {
    void* const opened = ::dlopen(library, RTLD_NOW);
    auto const function =
        opened == nullptr
            ? nullptr
            : reinterpret_cast<void (*)(known_call*)>(::dlsym(opened, "guest_static_call"));
    if (function == nullptr) {
        std::fprintf(stderr, "%s\n", ::dlerror());
        return;
    }
    known_call call;
    function(&call);
    to.push_back(call);
}

}  // namespace

int main(int argc, char** argv) {
    std::string_view const kind = argc > 1 ? argv[1] : "";
    std::vector<known_call> calls{tarn::test::static_function(""), tarn::test::with_inlined(),
                                  tarn::test::known_type{}.method(1)};
    if (argc > 2) {
        add_calls_of(argv[2], calls);
    }
    if (kind == "raw") {
        write_raw(calls);
    } else if (kind == "resolved") {
        write_resolved(calls);
    } else if (kind == "json") {
        write_json(calls);
    } else if (kind == "place") {
        std::printf("freed by %s, and then\n", place_text(calls[0].address).c_str());
    } else {
        return 2;
    }
    return 0;
}
