/* Part of every library for 32-bit Arm, after support.c. LLVM's code for CPUs that cannot divide integers calls these
 * by the names used on other architectures; compilers for Arm may provide only the ABI's names. Weak: a program may
 * contain several libraries. */
#if defined(__arm__)
int32_t __aeabi_idiv(int32_t, int32_t);
uint32_t __aeabi_uidiv(uint32_t, uint32_t);
#define TCV_DIVISION __attribute__((weak, visibility("hidden")))
TCV_DIVISION int32_t __divsi3(int32_t a, int32_t b);
TCV_DIVISION int32_t __modsi3(int32_t a, int32_t b);
TCV_DIVISION uint32_t __udivsi3(uint32_t a, uint32_t b);
TCV_DIVISION uint32_t __umodsi3(uint32_t a, uint32_t b);
int32_t __divsi3(int32_t a, int32_t b) { return __aeabi_idiv(a, b); }
int32_t __modsi3(int32_t a, int32_t b) { return a - b * __aeabi_idiv(a, b); }
uint32_t __udivsi3(uint32_t a, uint32_t b) { return __aeabi_uidiv(a, b); }
uint32_t __umodsi3(uint32_t a, uint32_t b) { return a - b * __aeabi_uidiv(a, b); }
#endif
