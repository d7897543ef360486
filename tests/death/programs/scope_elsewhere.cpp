// scope_elsewhere - ends a scope in another thread than it began in.
#include <memory>
#include <new>
#include <thread>

#include "tarn/testing.hpp"

#include "misuse.hpp"

TARN_MISUSE misuse() {
    // Static: the chain of this thread still leads there afterwards.
    alignas(tarn::allocation_counter) static std::byte room[sizeof(tarn::allocation_counter)];
    auto* const counter = ::new (room) tarn::allocation_counter;
    std::thread{[counter] { std::destroy_at(counter); }}.join();
}
