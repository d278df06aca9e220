/*
 * A program that stands for husk-vmm in test_shim_container: it closes itself into an empty root like the
 * real one, so that trees can be attached, and then serves the fake agent on the socket it was handed.
 */
#include "fake_agent.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static int enter_empty_root(void)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", "/tmp", "tmpfs", 0, "size=64k") < 0 || chdir("/tmp") < 0 ||
        syscall(SYS_pivot_root, ".", ".") < 0)
        return -1;
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -1;
    return mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
}

int main(int argc, char **argv)
{
    int vsock = -1;
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--vsock") == 0 && strncmp(argv[i + 1], "fd:", 3) == 0)
            vsock = atoi(argv[i + 1] + 3);
    }
    if (vsock < 0 || enter_empty_root() < 0) {
        perror("fake-vmm");
        return 1;
    }
    fake_agent_serve(vsock);
    return 0;
}
