#!/bin/bash
# gcc in the guest compiles and links a C program with threads, and it runs.
# limit: 600
. "${0%/*}/lib.sh"

mkdir -p "$rootfs/srv/c"
cat > "$rootfs/srv/c/sum.c" << 'C'
#include <pthread.h>
#include <stdio.h>

static void *sum(void *arg)
{
    long *n = arg, total = 0;
    for (long i = 1; i <= *n; i++)
        total += i;
    *n = total;
    return n;
}

int main(void)
{
    long n[4] = {10, 100, 1000, 10000};
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        if (pthread_create(&t[i], NULL, sum, &n[i]))
            return 1;
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    printf("%ld %ld %ld %ld\n", n[0], n[1], n[2], n[3]);
    return 0;
}
C
equal "the program's output" "$(in_guest sh -c 'cd /srv/c && gcc -O2 -Wall -Werror -pthread -o sum sum.c && ./sum')" \
  "55 5050 500500 50005000"
rm -rf "$rootfs/srv/c"
