/* The platform as far as the tested parts use it. */
#include <stdlib.h>
#include <string.h>

#include "platform.h"

void platform_log(char level, const char *tag, const char *format, ...)
{
    (void)level;
    (void)tag;
    (void)format;
}

void platform_random(void *buffer, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)buffer)[i] = (uint8_t)rand();
    }
}

bool platform_nvs_string(const char *name_space, const char *key, char *value, size_t size)
{
    (void)name_space;
    (void)key;
    memset(value, 0, size);
    return false;
}

bool platform_nvs_blob(const char *name_space, const char *key, uint8_t *value, size_t size, size_t *length)
{
    (void)name_space;
    (void)key;
    memset(value, 0, size);
    *length = 0;
    return false;
}
