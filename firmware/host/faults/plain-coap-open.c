/* Fault: the server answers plain CoAP on port 5683 too. */
#include <arpa/inet.h>
#include <coap3/coap.h>

coap_endpoint_t *__real_coap_new_endpoint(coap_context_t *context, const coap_address_t *address, coap_proto_t proto);
coap_endpoint_t *__wrap_coap_new_endpoint(coap_context_t *context, const coap_address_t *address, coap_proto_t proto);

coap_endpoint_t *__wrap_coap_new_endpoint(coap_context_t *context, const coap_address_t *address, coap_proto_t proto)
{
    coap_address_t plain = *address;

    plain.addr.sin.sin_port = htons(COAP_DEFAULT_PORT);
    if (__real_coap_new_endpoint(context, &plain, COAP_PROTO_UDP) == NULL) {
        return NULL;
    }
    return __real_coap_new_endpoint(context, address, proto);
}
