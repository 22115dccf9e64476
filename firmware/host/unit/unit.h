/* Checks for the unit tests: the first that fails ends the program. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                  \
        }                                                                             \
    } while (0)

void test_config(void);
void test_credentials(void);
void test_exchanges(void);
void test_number(void);
void test_payload(void);
void test_writer(void);
