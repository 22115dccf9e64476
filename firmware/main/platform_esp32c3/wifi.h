#pragma once

#include "platform.h"

void wifi_join(const char *ssid, const char *passphrase, platform_network_t *network);
void wifi_leave(void);
