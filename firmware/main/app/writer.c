#include "writer.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* RFC 8949 section 3: the major type is in the upper three bits. */
enum { CBOR_UNSIGNED = 0x00, CBOR_TEXT = 0x60, CBOR_MAP = 0xa0 };

void write_bytes(writer_t *writer, const void *bytes, size_t length)
{
    if (length > writer->size - writer->length) {
        writer->overflow = true;
    } else if (length > 0) {
        memcpy(writer->bytes + writer->length, bytes, length);
        writer->length += length;
    }
}

void write_text(writer_t *writer, const char *text)
{
    write_bytes(writer, text, strlen(text));
}

void write_format(writer_t *writer, const char *format, ...)
{
    char text[96];
    va_list values;

    va_start(values, format);
    int length = vsnprintf(text, sizeof(text), format, values);
    va_end(values);
    if (length < 0 || (size_t)length >= sizeof(text)) {
        writer->overflow = true;
    } else {
        write_bytes(writer, text, (size_t)length);
    }
}

/* The shortest head that holds the value, as RFC 8949 section 4.2.1 wants it. */
static void write_cbor_head(writer_t *writer, uint8_t major, uint64_t value)
{
    uint8_t head[9] = {major};
    size_t size = 1;

    if (value < 24) {
        head[0] |= (uint8_t)value;
    } else {
        unsigned power = value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;

        head[0] |= (uint8_t)(24 + power);
        size += (size_t)1 << power;
        for (size_t i = size - 1; i > 0; i--) {
            head[i] = (uint8_t)value;
            value >>= 8;
        }
    }
    write_bytes(writer, head, size);
}

static void write_cbor_text(writer_t *writer, const char *text)
{
    write_cbor_head(writer, CBOR_TEXT, strlen(text));
    write_text(writer, text);
}

object_t object_begin(writer_t *writer, notation_t notation, unsigned members)
{
    if (notation == NOTATION_CBOR) {
        write_cbor_head(writer, CBOR_MAP, members);
    } else {
        write_text(writer, "{");
    }
    return (object_t){.writer = writer, .notation = notation, .empty = true};
}

static void write_name(object_t *object, const char *name)
{
    if (object->notation == NOTATION_CBOR) {
        write_cbor_text(object->writer, name);
    } else {
        write_format(object->writer, "%s\"%s\":", object->empty ? "" : ",", name);
    }
    object->empty = false;
}

void object_number(object_t *object, const char *name, uint64_t value)
{
    write_name(object, name);
    if (object->notation == NOTATION_CBOR) {
        write_cbor_head(object->writer, CBOR_UNSIGNED, value);
    } else {
        write_format(object->writer, "%" PRIu64, value);
    }
}

void object_text(object_t *object, const char *name, const char *text)
{
    write_name(object, name);
    if (object->notation == NOTATION_CBOR) {
        write_cbor_text(object->writer, text);
    } else {
        write_format(object->writer, "\"%s\"", text);
    }
}

void object_end(object_t *object)
{
    if (object->notation == NOTATION_JSON) {
        write_text(object->writer, "}");
    }
}
