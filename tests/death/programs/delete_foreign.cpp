// delete_foreign - deletes a static variable.
#include <new>

#include "misuse.hpp"

alignas(64) static char variable[64];

TARN_MISUSE misuse() {
    announce("pointer", variable);
    ::operator delete(opaque(static_cast<void*>(variable)));
    not_a_tail_call();
}
