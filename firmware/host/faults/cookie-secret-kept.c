/* Fault: the secret behind the cookies is the same after every restart.
 *
 * libcoap draws it when it makes its context, as the first thing that it asks of RAND_bytes. The linker exports this
 * one, because the libraries ask for it, and so libcoap finds it before OpenSSL's own. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int RAND_bytes(unsigned char *bytes, int count);

int RAND_bytes(unsigned char *bytes, int count)
{
    static bool drawn;
    int (*next)(unsigned char *, int) = dlsym(RTLD_NEXT, "RAND_bytes");

    if (next == NULL) {
        abort();
    }
    if (drawn) {
        return next(bytes, count);
    }
    drawn = true;
    memset(bytes, 0x5a, (size_t)count);
    return 1;
}
