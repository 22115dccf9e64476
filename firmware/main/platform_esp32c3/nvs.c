/* Non-volatile storage, read only: the application writes none of its own. */
#include "nvs.h"

#include "nvs_flash.h"
#include "platform.h"

bool platform_nvs_string(const char *name_space, const char *key, char *value, size_t size)
{
    nvs_handle_t handle;
    size_t length = size;

    if (nvs_open_from_partition("creds", name_space, NVS_READONLY, &handle) != ESP_OK) {
        return false;
    }
    esp_err_t result = nvs_get_str(handle, key, value, &length);
    nvs_close(handle);
    return result == ESP_OK;
}

bool platform_nvs_blob(const char *name_space, const char *key, uint8_t *value, size_t size, size_t *length)
{
    nvs_handle_t handle;

    if (nvs_open_from_partition("creds", name_space, NVS_READONLY, &handle) != ESP_OK) {
        return false;
    }
    *length = size;
    esp_err_t result = nvs_get_blob(handle, key, value, length);
    nvs_close(handle);
    return result == ESP_OK;
}
