/* The checking pool of tarn/mp.h: a block from a slab, an overflow that is found when the block is
 * freed, a block that is not freed, and what mp_destroy says of it. */
#include <stdio.h>
#include <string.h>

#include <tarn/mp.h>

/* Where reports go here; without this they go to standard error. */
static int reports;

static void count_report(char const* text, size_t bytes, void* context) {
    (void)context;
    ++reports;
    fwrite(text, 1, bytes, stdout);
}

int main(void) {
    mp_options options = MP_OPTIONS_DEFAULT;
    options.report_to = TARN_MP_CALL;
    options.report_call = count_report;
    if (mp_init(&options) != 0) {
        return 1;
    }

    /* The first slab that is large enough: 128 bytes. */
    char* const text = mp_alloc(100);
    char* const forgotten = mp_alloc(3000);
    if (text == NULL || forgotten == NULL) {
        return 1;
    }
    strcpy(text, "hello");
    strcpy(forgotten, "world");

    /* Guards are whole: nothing is reported. */
    if (mp_check_all() != 0 || reports != 0) {
        return 1;
    }

    /* One byte too far: found here, with the stack of the allocation. */
    *(char volatile*)(text + 100) = '!';
    mp_free(text);
    if (reports != 1) {
        return 1;
    }

    /* Statistics, the block that was not freed with its stack, and all memory back. */
    return mp_destroy() == 0 && reports > 1 ? 0 : 1;
}
