/* The handle table: see handle.h. Slots with generations under one lock; files are closed without it. */
#include "vmm/fs/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS_MIN 64U
#define SLOTS_MAX (1U << 20)

int fs_handles_init(struct fs_handles *handles, struct fs_table *table)
{
    /* Slot 0 stays unused: no handle is 0, and 0 ends the free list. */
    *handles = (struct fs_handles){.table = table, .slots_used = 1};
    pthread_mutex_init(&handles->lock, NULL);
    return 0;
}

static int slots_grow_locked(struct fs_handles *handles, uint32_t at_least)
{
    uint32_t slots = handles->slots ? handles->slots : SLOTS_MIN;
    while (slots <= at_least)
        slots *= 2;
    struct fs_handle_slot *grown = reallocarray(handles->slot, slots, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + handles->slots, 0, (slots - handles->slots) * sizeof(*grown));
    handles->slot = grown;
    handles->slots = slots;
    return 0;
}

/* Closes the file and frees what was allocated. The handle is in no slot. */
static void handle_free(struct fs_handles *handles, struct fs_handle *handle)
{
    close(handle->fd);
    fs_table_drop_handle(handles->table);
    fs_inode_put(handles->table, handle->inode);
    if (handle->dir)
        pthread_mutex_destroy(&handle->dir->lock);
    free(handle->dir);
    free(handle);
}

static struct fs_handle *handle_new(struct fs_handles *handles, struct fs_inode *inode, int fd, int flags,
                                    bool is_dir)
{
    struct fs_handle *handle = calloc(1, sizeof(*handle));
    struct fs_dir *dir = is_dir ? malloc(sizeof(*dir)) : NULL;
    if (!handle || (is_dir && !dir)) {
        free(handle);
        free(dir);
        return NULL;
    }
    if (dir) {
        pthread_mutex_init(&dir->lock, NULL);
        dir->position = 0;
        dir->at = dir->end = 0;
    }
    handle->fd = fd;
    handle->flags = flags;
    handle->refs = 1;
    handle->dir = dir;
    handle->inode = fs_inode_ref(handles->table, inode);
    return handle;
}

/* Puts the handle into slot `index` (0: any free one). */
static int slot_take_locked(struct fs_handles *handles, struct fs_handle *handle, uint32_t index,
                            uint32_t generation)
{
    bool any = index == 0;
    bool reused = any && handles->free_slot != 0;
    if (any)
        index = reused ? handles->free_slot : handles->slots_used;
    if (index >= SLOTS_MAX)
        return -ENFILE;
    if (index >= handles->slots && slots_grow_locked(handles, index))
        return -ENOMEM;
    struct fs_handle_slot *slot = &handles->slot[index];
    if (slot->handle)
        return -EEXIST;
    if (reused)
        handles->free_slot = slot->next_free;
    if (!any)
        slot->generation = generation;
    if (index >= handles->slots_used)
        handles->slots_used = index + 1;
    slot->handle = handle;
    handle->fh = (uint64_t)slot->generation << 32 | index;
    return 0;
}

static int handle_enter(struct fs_handles *handles, struct fs_inode *inode, int fd, int flags, bool is_dir,
                        uint32_t index, uint32_t generation, uint64_t *fh)
{
    int err = fs_table_take_handle(handles->table);
    if (err) {
        close(fd);
        return err;
    }
    struct fs_handle *handle = handle_new(handles, inode, fd, flags, is_dir);
    if (!handle) {
        close(fd);
        fs_table_drop_handle(handles->table);
        return -ENOMEM;
    }
    pthread_mutex_lock(&handles->lock);
    err = slot_take_locked(handles, handle, index, generation);
    *fh = handle->fh;
    pthread_mutex_unlock(&handles->lock);
    if (err)
        handle_free(handles, handle);
    return err;
}

int fs_handle_open(struct fs_handles *handles, struct fs_inode *inode, int fd, int flags, bool is_dir,
                   uint64_t *fh)
{
    return handle_enter(handles, inode, fd, flags, is_dir, 0, 0, fh);
}

int fs_handle_restore(struct fs_handles *handles, struct fs_inode *inode, int fd, int flags, bool is_dir,
                      uint64_t fh)
{
    uint32_t index = (uint32_t)fh;
    if (index == 0 || index >= SLOTS_MAX) {
        close(fd);
        return -EPROTO;
    }
    uint64_t same;
    return handle_enter(handles, inode, fd, flags, is_dir, index, (uint32_t)(fh >> 32), &same);
}

static struct fs_handle *find_locked(struct fs_handles *handles, uint64_t fh, bool is_dir)
{
    uint32_t index = (uint32_t)fh;
    if (index >= handles->slots_used || index >= handles->slots ||
        handles->slot[index].generation != (uint32_t)(fh >> 32))
        return NULL;
    struct fs_handle *handle = handles->slot[index].handle;
    return handle && (handle->dir != NULL) == is_dir ? handle : NULL;
}

struct fs_handle *fs_handle_get(struct fs_handles *handles, uint64_t fh, bool is_dir)
{
    pthread_mutex_lock(&handles->lock);
    struct fs_handle *handle = find_locked(handles, fh, is_dir);
    if (handle)
        handle->refs++;
    pthread_mutex_unlock(&handles->lock);
    return handle;
}

void fs_handle_put(struct fs_handles *handles, struct fs_handle *handle)
{
    pthread_mutex_lock(&handles->lock);
    bool last = --handle->refs == 0;
    pthread_mutex_unlock(&handles->lock);
    if (last)
        handle_free(handles, handle);
}

static void slot_free_locked(struct fs_handles *handles, struct fs_handle *handle)
{
    uint32_t index = (uint32_t)handle->fh;
    struct fs_handle_slot *slot = &handles->slot[index];
    slot->handle = NULL;
    slot->generation++;
    slot->next_free = handles->free_slot;
    handles->free_slot = index;
}

int fs_handle_release(struct fs_handles *handles, uint64_t fh, bool is_dir)
{
    pthread_mutex_lock(&handles->lock);
    struct fs_handle *handle = find_locked(handles, fh, is_dir);
    if (handle)
        slot_free_locked(handles, handle);
    pthread_mutex_unlock(&handles->lock);
    if (!handle)
        return -EBADF;
    fs_handle_put(handles, handle);
    return 0;
}

void fs_handles_clear(struct fs_handles *handles)
{
    for (uint32_t i = 1;; i++) {
        pthread_mutex_lock(&handles->lock);
        bool end = i >= handles->slots_used || i >= handles->slots;
        struct fs_handle *handle = end ? NULL : handles->slot[i].handle;
        if (handle)
            slot_free_locked(handles, handle);
        pthread_mutex_unlock(&handles->lock);
        if (end)
            return;
        if (handle)
            fs_handle_put(handles, handle);
    }
}

void fs_handles_fini(struct fs_handles *handles)
{
    fs_handles_clear(handles);
    free(handles->slot);
    pthread_mutex_destroy(&handles->lock);
}
