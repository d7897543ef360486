// delete_foreign - deletes a static variable.
#include "misuse.hpp"
#include <new>

alignas(64) static char variable[64];

MISUSE misuse() {
    announce("pointer", variable);
    ::operator delete(opaque(static_cast<void*>(variable)));
    not_a_tail_call();
}
