/* The chip's DTLS profile on the host: the one suite, no session that is taken up again, no client that suffers for
 * another's errors.
 *
 * libcoap offers no way to narrow OpenSSL's defaults. The executable exports these names, so that libcoap's calls
 * resolve here and not in libssl. */
#include <dlfcn.h>
#include <openssl/err.h>
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

/* libcoap asks SSL_get_error what became of a call, and that looks at all errors of the thread: one that another
 * client's failed handshake left there would end a healthy session. */
int SSL_accept(SSL *session)
{
    int (*next)(SSL *) = ssl_function("SSL_accept");

    ERR_clear_error();
    return next(session);
}

int SSL_read(SSL *session, void *buffer, int size)
{
    int (*next)(SSL *, void *, int) = ssl_function("SSL_read");

    ERR_clear_error();
    return next(session, buffer, size);
}

int SSL_write(SSL *session, const void *buffer, int size)
{
    int (*next)(SSL *, const void *, int) = ssl_function("SSL_write");

    ERR_clear_error();
    return next(session, buffer, size);
}
