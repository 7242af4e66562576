/* A wall clock that jumps: every two seconds by a day, forth and back. Loaded in front of the C library.
   Ray's own servers keep the true one: their handshake can hang on a jump, with or without this project. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    struct timespec now;
    const char *name = program_invocation_short_name;
    if (name && (!strcmp(name, "raylet") || !strcmp(name, "gcs_server"))) return 0;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (now.tv_sec / 2 % 3 - 1) * 86400L;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int code = syscall(SYS_clock_gettime, id, now);
    if (code == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += shift();
    return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int code = syscall(SYS_gettimeofday, now, zone);
    if (code == 0) now->tv_sec += shift();
    return code;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
