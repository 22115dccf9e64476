/* For faults that depend on what has come in: look at the next datagram before libcoap takes it. */
#pragma once

#include <coap3/coap.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>

#define WAITING_DESCRIPTORS 64
/* libcoap's own timers run between two looks. */
#define WAITING_SLICE_MS 20

/* How long the datagram is that waits on one of the process's sockets; 0 when none has come within the slice. */
static inline size_t waiting_datagram(uint8_t *bytes, size_t size)
{
    struct pollfd sockets[WAITING_DESCRIPTORS];
    nfds_t count = 0;

    for (int fd = 0; fd < WAITING_DESCRIPTORS; fd++) {
        int domain = 0;
        socklen_t length = sizeof(domain);

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_INET) {
            sockets[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
    }
    if (poll(sockets, count, WAITING_SLICE_MS) <= 0) {
        return 0;
    }
    for (nfds_t i = 0; i < count; i++) {
        ssize_t got = sockets[i].revents & POLLIN ? recv(sockets[i].fd, bytes, size, MSG_PEEK | MSG_DONTWAIT) : 0;

        if (got > 0) {
            return (size_t)got;
        }
    }
    return 0;
}
