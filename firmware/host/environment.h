/* What the virtual board hands to this process when it starts it. */
#pragma once

typedef struct {
    int chip_fd;         /* RIG_CHIP_FD: SOCK_SEQPACKET to the board */
    int nvs_fd;          /* RIG_NVS_FD: the values of the NVS partition */
    int rtc_fd;          /* RIG_RTC_FD: RTC memory */
    int reset_reason;    /* RIG_RESET_REASON: esp_reset_reason_t */
    int wake_cause;      /* RIG_WAKE_CAUSE: esp_sleep_source_t, 0 when it is not given */
    const char *address; /* RIG_ADDRESS: the IPv4 address that DHCP will give */
} environment_t;

extern environment_t environment;

/* Ends the process with a sentence on stderr if anything is missing. */
void environment_read(void);
