/*
 * What the file benchmarks do in the guest: io WHAT DIRECTORY [DIVISOR], one measurement, printed in seconds.
 *
 *   sequential-read    256 MiB of DIRECTORY/file, 1 MiB at a time
 *   sequential-write   the same, ends with fsync
 *   random-read        8192 times 4 KiB of DIRECTORY/file, at places that follow from a fixed seed
 *   random-write       the same, ends with fsync
 *   files              creates, then stats, then unlinks 10,000 files
 *   prepare            makes DIRECTORY/file; prints nothing
 *   drop               drops this kernel's page, dentry and inode caches; prints nothing
 *
 * DIVISOR makes each of these sizes and counts smaller.
 *
 * Built static by tests/bench/run and copied to the shared tree, so that every system under test runs the
 * same code.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES (1u << 20)
#define PAGE_BYTES  4096u

static unsigned file_bytes = 256u << 20, operations = 8192, file_count = 10000;

static uint8_t block[BLOCK_BYTES];

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "io: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int file_open(int flags)
{
    int fd = open("file", flags | O_CLOEXEC, 0644);
    if (fd < 0)
        fail("file");
    return fd;
}

static void sequential_write(void)
{
    int fd = file_open(O_CREAT | O_WRONLY);
    for (unsigned at = 0; at < file_bytes; at += BLOCK_BYTES) {
        memcpy(block, &at, sizeof(at));
        if (pwrite(fd, block, BLOCK_BYTES, at) != (ssize_t)BLOCK_BYTES)
            fail("write");
    }
    if (fsync(fd) < 0)
        fail("fsync");
    close(fd);
}

static void sequential_read(void)
{
    int fd = file_open(O_RDONLY);
    for (unsigned at = 0; at < file_bytes; at += BLOCK_BYTES) {
        unsigned got;
        if (pread(fd, block, BLOCK_BYTES, at) != (ssize_t)BLOCK_BYTES)
            fail("read");
        memcpy(&got, block, sizeof(got));
        if (got != at) {
            fprintf(stderr, "io: at %u: read what belongs at %u\n", at, got);
            exit(1);
        }
    }
    close(fd);
}

/* Numerical Recipes' linear congruential generator: the same places in every run. */
static off_t next_place(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (off_t)(state >> 8) % (off_t)(file_bytes / PAGE_BYTES) * (off_t)PAGE_BYTES;
}

static void random_read(void)
{
    int fd = file_open(O_RDONLY);
    for (unsigned i = 0; i < operations; i++)
        if (pread(fd, block, PAGE_BYTES, next_place()) != (ssize_t)PAGE_BYTES)
            fail("read");
    close(fd);
}

/* Only pages that hold no block's number, so that the file stays what sequential_read expects. */
static void random_write(void)
{
    int fd = file_open(O_WRONLY);
    for (unsigned i = 0; i < operations; i++) {
        off_t at = next_place();
        if (at % (off_t)BLOCK_BYTES == 0)
            at += (off_t)PAGE_BYTES;
        if (pwrite(fd, block, PAGE_BYTES, at) != (ssize_t)PAGE_BYTES)
            fail("write");
    }
    if (fsync(fd) < 0)
        fail("fsync");
    close(fd);
}

static void files(void)
{
    char name[32];
    struct stat st;
    if (mkdir("files", 0755) < 0)
        fail("files");
    for (unsigned i = 0; i < file_count; i++) {
        snprintf(name, sizeof(name), "files/%u", i);
        int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
            fail(name);
        close(fd);
    }
    for (unsigned i = 0; i < file_count; i++) {
        snprintf(name, sizeof(name), "files/%u", i);
        if (stat(name, &st) < 0)
            fail(name);
    }
    for (unsigned i = 0; i < file_count; i++) {
        snprintf(name, sizeof(name), "files/%u", i);
        if (unlink(name) < 0)
            fail(name);
    }
    if (rmdir("files") < 0)
        fail("files");
}

static void drop(void)
{
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "3", 1) != 1)
        fail("/proc/sys/vm/drop_caches");
    close(fd);
}

static const struct {
    const char *name;
    void (*run)(void);
    int timed;
} modes[] = {
    {"sequential-read", sequential_read, 1},
    {"sequential-write", sequential_write, 1},
    {"random-read", random_read, 1},
    {"random-write", random_write, 1},
    {"files", files, 1},
    {"prepare", sequential_write, 0},
    {"drop", drop, 0},
};

int main(int argc, char **argv)
{
    unsigned divisor = argc == 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 1;
    if (argc < 3 || argc > 4 || divisor < 1 || divisor > file_bytes / BLOCK_BYTES || chdir(argv[2]) < 0) {
        fprintf(stderr, "usage: io WHAT DIRECTORY [DIVISOR]\n");
        return 2;
    }
    file_bytes = file_bytes / BLOCK_BYTES / divisor * BLOCK_BYTES;
    operations /= divisor;
    file_count /= divisor;
    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(modes[i].name, argv[1]) != 0)
            continue;
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        modes[i].run();
        clock_gettime(CLOCK_MONOTONIC, &end);
        if (modes[i].timed)
            printf("%.6f\n",
                   (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
        return 0;
    }
    fprintf(stderr, "io: unknown measurement %s\n", argv[1]);
    return 2;
}
