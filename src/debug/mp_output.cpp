#include "debug/mp_output.hpp"

#include "heap/diversion.hpp"
#include "debug/report.hpp"

namespace tarn::impl::debug {

using platform::os;

namespace {

std::byte* map(std::size_t bytes) noexcept {
    void* const fresh = os::reserve(bytes, {});
    if (fresh == nullptr) {
        return nullptr;
    }
    if (!os::commit(fresh, bytes)) {
        os::release(fresh, bytes);
        return nullptr;
    }
    return static_cast<std::byte*>(fresh);
}

}  // namespace

report_room::report_room() noexcept
    : mapped_{map(report_bytes)},
      sink_{mapped_ == nullptr ? small_.data() : reinterpret_cast<char*>(mapped_),
            mapped_ == nullptr ? small_.size() : report_bytes} {}

report_room::~report_room() {
    if (mapped_ != nullptr) {
        os::release(mapped_, report_bytes);
    }
}

void mp_output::write(std::string_view text) noexcept {
    if (where_.to == mp_target::call && !is_calling()) {
        call(text);
        return;
    }
    if (where_.to == mp_target::file) {
        if (int const fd = os::open_append(where_.path.data()); fd >= 0) {
            os::write_all(fd, text.data(), text.size());
            os::close_file(fd);
            return;
        }
    }
    os::write_all(
        where_.to == mp_target::descriptor ? where_.descriptor : mp_destination::standard_error,
        text.data(), text.size());
}

void mp_output::call(std::string_view text) noexcept {
    std::atomic<std::uint32_t>* mine = nullptr;
    std::uint32_t const thread = os::thread_id();
    for (std::atomic<std::uint32_t>& each : calling_) {
        std::uint32_t nobody = 0;
        // relaxed: only this thread asks for its own number
        if (each.compare_exchange_strong(nobody, thread, std::memory_order_relaxed)) {
            mine = &each;
            break;
        }
    }
    {
        heap::program_runs const scope;
        where_.call(text.data(), text.size(), where_.context);
    }
    if (mine != nullptr) {
        mine->store(0, std::memory_order_relaxed);
    }
}

bool mp_output::is_calling() const noexcept {
    std::uint32_t const thread = os::thread_id();
    for (std::atomic<std::uint32_t> const& each : calling_) {
        if (each.load(std::memory_order_relaxed) == thread) {
            return true;
        }
    }
    return false;
}

void mp_output::forget_other_threads() noexcept {
    for (std::atomic<std::uint32_t>& each : calling_) {
        each.store(0, std::memory_order_relaxed);
    }
}

}  // namespace tarn::impl::debug
