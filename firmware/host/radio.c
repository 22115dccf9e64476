/* The Wi-Fi driver of the virtual bench: libc's socket calls, each datagram reported to the board.
 *
 * The executable exports these names, so that libcoap's calls resolve here and not in libc. */
#include "radio.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "chip.h"

/* The process has few: the console, the board's, and libcoap's. */
#define DESCRIPTORS_MAX 64

static bool is_network(int fd)
{
    int domain = 0;
    socklen_t length = sizeof(domain);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && (domain == AF_INET || domain == AF_INET6);
}

static void *libc_function(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (function == NULL) {
        abort();
    }
    return function;
}

static ssize_t sent(int fd, uint64_t start_ns, ssize_t size)
{
    if (size >= 0 && is_network(fd)) {
        chip_report(start_ns, "tx %zd", size);
    }
    return size;
}

static ssize_t received(int fd, int flags, ssize_t size)
{
    if (size >= 0 && !(flags & MSG_PEEK) && is_network(fd)) {
        chip_report(chip_now_ns(), "rx %zd", size);
    }
    return size;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    ssize_t (*next)(int, const void *, size_t, int) = libc_function("send");
    uint64_t start_ns = chip_now_ns();

    return sent(fd, start_ns, next(fd, data, size, flags));
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_length)
{
    ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = libc_function("sendto");
    uint64_t start_ns = chip_now_ns();

    return sent(fd, start_ns, next(fd, data, size, flags, to, to_length));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ssize_t (*next)(int, const struct msghdr *, int) = libc_function("sendmsg");
    uint64_t start_ns = chip_now_ns();

    return sent(fd, start_ns, next(fd, message, flags));
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    ssize_t (*next)(int, void *, size_t, int) = libc_function("recv");

    return received(fd, flags, next(fd, data, size, flags));
}

ssize_t recvfrom(int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *from_length)
{
    ssize_t (*next)(int, void *, size_t, int, struct sockaddr *, socklen_t *) = libc_function("recvfrom");

    return received(fd, flags, next(fd, data, size, flags, from, from_length));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t (*next)(int, struct msghdr *, int) = libc_function("recvmsg");

    return received(fd, flags, next(fd, message, flags));
}

void radio_lose_received(void)
{
    ssize_t (*next)(int, void *, size_t, int) = libc_function("recv");
    char byte;

    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        while (is_network(fd) && next(fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0) {
        }
    }
}
