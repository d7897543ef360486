/* tls_filler.c - a library that takes BYTES of static thread-local storage. */
static __thread char filler[BYTES] __attribute__((tls_model("initial-exec")));

char* filler_use(void) {
    filler[0] = 1;
    return filler;
}
