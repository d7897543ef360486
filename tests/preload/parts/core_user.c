/* core_user.c - a library that is linked with libtarn_core, as a plug-in may be. */
#include <stddef.h>

void* tarn_malloc(size_t bytes);

void* core_user_block(size_t bytes) { return tarn_malloc(bytes); }
