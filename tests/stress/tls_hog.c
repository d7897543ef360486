/* tls_hog - a library that takes 16 bytes of the static TLS when it is loaded. */
__attribute__((visibility("default"))) _Thread_local char tarn_test_hog[16]
    __attribute__((tls_model("initial-exec"), aligned(16)));

char* tarn_test_use_hog(void);

char* tarn_test_use_hog(void) { return tarn_test_hog; }
