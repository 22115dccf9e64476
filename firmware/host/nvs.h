/* The values of the NVS partition, as the virtual board hands them over: one line of
 * namespace TAB key TAB type TAB hexadecimal value each. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Read all lines; ends the process if the descriptor cannot be read. */
void nvs_read(int fd);

/* Copy the value of that type; false if there is none or it is larger than size. */
bool nvs_get(const char *name_space, const char *key, const char *type, uint8_t *value, size_t size, size_t *length);
