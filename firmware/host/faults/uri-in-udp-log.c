/* Fault: a debug log over UDP tells each request's path in clear, to whoever sent the request. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "requests.h"

#define DESCRIPTORS_MAX 64

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler);

/* From the socket of the service, so that no firewall is in the way. */
static int service_socket(const coap_session_t *session)
{
    in_port_t port = coap_session_get_addr_local(session)->addr.sin.sin_port;

    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        struct sockaddr_in bound = {0};
        socklen_t length = sizeof(bound);

        if (getsockname(fd, (struct sockaddr *)&bound, &length) == 0 && bound.sin_family == AF_INET &&
            bound.sin_port == port) {
            return fd;
        }
    }
    return -1;
}

static void serve_and_tell(coap_resource_t *resource, coap_session_t *session, const coap_pdu_t *request,
                           const coap_string_t *query, coap_pdu_t *response)
{
    const struct sockaddr_in *peer = &coap_session_get_addr_remote(session)->addr.sin;
    const coap_str_const_t *path = coap_resource_get_uri_path(resource);
    char text[256];
    int length = snprintf(text, sizeof(text), "debug: /%.*s?%.*s", (int)path->length, path->s,
                          query != NULL ? (int)query->length : 0, query != NULL ? (const char *)query->s : "");

    sendto(service_socket(session), text, (size_t)length, 0, (const struct sockaddr *)peer, sizeof(*peer));
    application_handler(resource, session, request, query, response);
}

void __wrap_coap_register_request_handler(coap_resource_t *resource, coap_request_t method,
                                          coap_method_handler_t handler)
{
    register_instead(resource, method, handler, serve_and_tell);
}
