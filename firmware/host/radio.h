/* The Wi-Fi driver of the virtual bench. */
#pragma once

/* Lose what has come in on every datagram socket: the radio was off when it was sent. */
void radio_lose_received(void);
