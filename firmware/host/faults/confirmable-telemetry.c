/* Fault: every notification is confirmable, that of telemetry too. */
#include <coap3/coap.h>

coap_resource_t *__real_coap_resource_init(coap_str_const_t *path, int flags);
coap_resource_t *__wrap_coap_resource_init(coap_str_const_t *path, int flags);

coap_resource_t *__wrap_coap_resource_init(coap_str_const_t *path, int flags)
{
    return __real_coap_resource_init(path, (flags & ~COAP_RESOURCE_FLAGS_NOTIFY_NON) | COAP_RESOURCE_FLAGS_NOTIFY_CON);
}
