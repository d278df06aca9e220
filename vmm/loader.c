/* The loading thread: see loader.h. Made by machine_new, waited for by machine_load. */
#include "vmm/loader.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define STACK_BYTES (128u << 10)

struct loader {
    struct loader_config config;
    const struct guest_memory *memory;
    pthread_t thread;
    /* The thread's until it has ended: */
    struct loaded loaded;
    struct error err;
    int result; /* 0, or -1 with err */
};

static int load(struct loader *loader)
{
    const struct loader_config *config = &loader->config;
    struct loaded *loaded = &loader->loaded;
    int rc = config->thread_start ? config->thread_start() : 0;
    if (rc < 0)
        return error_set(&loader->err, -rc, "jail: the loading thread");
    if (elf_kernel_load(config->kernel_fd, loader->memory, config->map_kernel, &loaded->kernel,
                        &loader->err) < 0)
        return -1;
    if (config->initrd_fd < 0)
        return 0;
    return boot_initrd_load(config->initrd_fd, loader->memory, loaded->kernel.end, &loaded->initrd,
                            &loader->err);
}

static void *loader_thread(void *arg)
{
    struct loader *loader = arg;
    loader->result = load(loader);
    return NULL;
}

struct loader *loader_new(const struct loader_config *config, const struct guest_memory *memory,
                          struct error *err)
{
    pthread_attr_t attributes;
    struct loader *loader = calloc(1, sizeof(*loader));
    int rc = loader ? pthread_attr_init(&attributes) : ENOMEM;
    if (rc == 0) {
        *loader = (struct loader){.config = *config, .memory = memory};
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        rc = pthread_create(&loader->thread, &attributes, loader_thread, loader);
        pthread_attr_destroy(&attributes);
    }
    if (rc == 0)
        return loader;
    free(loader);
    error_set(err, rc, "boot: thread that loads the kernel");
    return NULL;
}

int loader_finish(struct loader *loader, struct loaded *loaded, struct error *err)
{
    pthread_join(loader->thread, NULL);
    int result = loader->result;
    *loaded = loader->loaded;
    if (result < 0 && err)
        *err = loader->err;
    free(loader);
    return result;
}

void loader_free(struct loader *loader)
{
    struct loaded loaded;
    if (loader)
        loader_finish(loader, &loaded, NULL);
}
