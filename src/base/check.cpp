#include "base/check.hpp"

#include <atomic>
#include <cstdlib>

#include "base/text.hpp"

namespace tarn::impl::base {

namespace {

constinit std::atomic<fatal_writer> writer_of_fatal_text{nullptr};

}  // namespace

void set_fatal_writer(fatal_writer writer) noexcept {
    // relaxed: a function of the library itself; no data is published with it.
    writer_of_fatal_text.store(writer, std::memory_order_relaxed);
}

void fail_check(char const* expression, char const* file, int line) noexcept {
    text_buffer<255> text;
    text << "tarn: internal check failed: " << expression << " at " << file << ':' << line;
    text_buffer<256> whole_line;  // ends in a newline, however long the text was
    whole_line << text.view() << '\n';
    if (fatal_writer const write = writer_of_fatal_text.load(std::memory_order_relaxed)) {
        write(whole_line.view().data(), whole_line.view().size());
    }
    std::abort();
}

}  // namespace tarn::impl::base
