/* Marks: instants with a name, on the console and as edges of the trigger line.
 *
 * The trigger line is high during a stretch (boot, a wake, a handshake, a request). Every stretch starts with a rising
 * edge, also when another one is still open, so that an instrument never misses a start: the line then belongs to the
 * younger stretch, and the end of the older one shows on the console only. */
#pragma once

/* A mark without a stretch; the line goes low with it. */
void mark(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A mark that leaves the line as it is. */
void mark_within(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* stretch: any address that tells this stretch from the others that are open. */
void mark_begin(const void *stretch, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
void mark_end(const void *stretch, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
