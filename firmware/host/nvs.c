#include "nvs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *lines;

void nvs_read(int fd)
{
    struct stat status;

    if (fstat(fd, &status) != 0 || (lines = calloc(1, (size_t)status.st_size + 1)) == NULL ||
        pread(fd, lines, (size_t)status.st_size, 0) != status.st_size) {
        perror("RIG_NVS_FD");
        exit(2);
    }
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool decode_hex(const char *text, size_t digits, uint8_t *value, size_t size, size_t *length)
{
    if (digits % 2 != 0 || digits / 2 > size) {
        return false;
    }
    for (size_t i = 0; i < digits / 2; i++) {
        int high = hex_digit(text[2 * i]);
        int low = hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        value[i] = (uint8_t)(high << 4 | low);
    }
    *length = digits / 2;
    return true;
}

bool nvs_get(const char *name_space, const char *key, const char *type, uint8_t *value, size_t size, size_t *length)
{
    char prefix[64];
    int prefix_length = snprintf(prefix, sizeof(prefix), "%s\t%s\t%s\t", name_space, key, type);

    for (const char *line = lines; *line != '\0';) {
        size_t line_length = strcspn(line, "\n");

        if (strncmp(line, prefix, (size_t)prefix_length) == 0) {
            return decode_hex(line + prefix_length, line_length - (size_t)prefix_length, value, size, length);
        }
        line += line_length + (line[line_length] == '\n');
    }
    return false;
}
