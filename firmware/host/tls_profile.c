/* The chip's DTLS profile on the host: the one suite, no session that is taken up again.
 *
 * libcoap offers no way to narrow OpenSSL's defaults. The executable exports these names, so that libcoap's calls
 * resolve here and not in libssl. */
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#define SUITES "PSK-AES128-CCM8:@SECLEVEL=0"

static void *ssl_function(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (function == NULL) {
        abort();
    }
    return function;
}

SSL_CTX *SSL_CTX_new(const SSL_METHOD *method)
{
    SSL_CTX *(*next)(const SSL_METHOD *) = ssl_function("SSL_CTX_new");
    SSL_CTX *context = next(method);

    if (context != NULL) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    }
    return context;
}

int SSL_CTX_set_cipher_list(SSL_CTX *context, const char *list)
{
    int (*next)(SSL_CTX *, const char *) = ssl_function("SSL_CTX_set_cipher_list");

    (void)list;
    return next(context, SUITES);
}

int SSL_set_cipher_list(SSL *session, const char *list)
{
    int (*next)(SSL *, const char *) = ssl_function("SSL_set_cipher_list");

    (void)list;
    return next(session, SUITES);
}
