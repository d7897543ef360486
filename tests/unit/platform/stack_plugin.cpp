// A library to be loaded by stack_walk_test.cpp: two of it differ in the size of one frame alone,
// so that the same address of code means something else.
#if defined(__x86_64__)
#define TEXT_OF(bytes) #bytes
#define TEXT(bytes) TEXT_OF(bytes)
__asm__(
    ".globl tarn_test_call_through\n"
    ".type tarn_test_call_through, @function\n"
    ".p2align 4\n"
    "tarn_test_call_through:\n"
    "    .cfi_startproc\n"
    "    sub $" TEXT(STACK_PLUGIN_FRAME) ", %rsp\n"
    "    .cfi_adjust_cfa_offset " TEXT(STACK_PLUGIN_FRAME) "\n"
    "    call *%rdi\n"
    "    add $" TEXT(STACK_PLUGIN_FRAME) ", %rsp\n"
    "    .cfi_adjust_cfa_offset -" TEXT(STACK_PLUGIN_FRAME) "\n"
    "    ret\n"
    "    .cfi_endproc\n"
    ".size tarn_test_call_through, .-tarn_test_call_through\n");
#endif
