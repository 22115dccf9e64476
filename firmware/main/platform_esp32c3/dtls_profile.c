/* What the application relies on in the mbedTLS build. A component that slips out of it does not compile. */
#include "mbedtls/build_info.h"
#include "mbedtls/ssl.h"
#include "mbedtls/ssl_ciphersuites.h"

#ifndef MBEDTLS_SSL_CIPHERSUITES
#error "the cipher suites are not narrowed: see the project's CMakeLists.txt"
#else
_Static_assert((MBEDTLS_SSL_CIPHERSUITES) == 0xC0A8, "only TLS_PSK_WITH_AES_128_CCM_8 may be offered");
#endif

_Static_assert(MBEDTLS_PSK_MAX_LEN == 64, "keys of up to 64 octets (RFC 4279 5.3)");

#if !defined(MBEDTLS_SSL_PROTO_DTLS) || !defined(MBEDTLS_SSL_PROTO_TLS1_2) || defined(MBEDTLS_SSL_PROTO_TLS1_3)
#error "DTLS 1.2 and nothing else"
#endif
#ifndef MBEDTLS_SSL_DTLS_HELLO_VERIFY
#error "no cookie exchange: a forged address would get a handshake's answer"
#endif
#ifndef MBEDTLS_SSL_DTLS_ANTI_REPLAY
#error "records could be replayed"
#endif
#ifndef MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#error "no extended master secret (RFC 7627)"
#endif
#ifndef MBEDTLS_SSL_MAX_FRAGMENT_LENGTH
#error "no max_fragment_length (RFC 6066)"
#endif
#if defined(MBEDTLS_SSL_RENEGOTIATION) || defined(MBEDTLS_SSL_SESSION_TICKETS) || \
    defined(MBEDTLS_SSL_DTLS_CONNECTION_ID) || defined(MBEDTLS_DEBUG_C)
#error "renegotiation, session tickets, connection identifiers and mbedTLS's debug text are to be off"
#endif
