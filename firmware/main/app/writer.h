/* Writing into a buffer that has an end, and the two notations of our objects: JSON (RFC 8259) and CBOR (RFC 8949). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What does not fit is left out, whole, and overflow is set: the content is then worth nothing. */
typedef struct {
    uint8_t *bytes;
    size_t size;
    size_t length;
    bool overflow;
} writer_t;

void write_bytes(writer_t *writer, const void *bytes, size_t length);
void write_text(writer_t *writer, const char *text);
void write_format(writer_t *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

typedef enum { NOTATION_JSON, NOTATION_CBOR } notation_t;

/* An object (a map) of names with numbers and texts. Names and texts are the program's own: they hold nothing that
 * JSON would want escaped, and are shorter than 256 bytes. */
typedef struct {
    writer_t *writer;
    notation_t notation;
    bool empty;
} object_t;

/* members: how many will follow, at most 23. */
object_t object_begin(writer_t *writer, notation_t notation, unsigned members);
void object_number(object_t *object, const char *name, uint64_t value);
void object_text(object_t *object, const char *name, const char *text);
void object_end(object_t *object);
