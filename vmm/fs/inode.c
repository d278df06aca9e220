/*
 * Identity and life of inodes: slots, hash, reference and lookup counts, and the record of where each one
 * is. See inode.h. The fds are in inode_path.c.
 */
#include "vmm/fs/inode_internal.h"

#include "protocol/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BUCKETS_MIN 1024U
#define SLOTS_MIN   1024U

/* ---- hash ---- */

static uint32_t bucket_of(const struct fs_table *table, uint32_t mount, uint64_t ino)
{
    uint64_t mixed = (ino ^ ((uint64_t)mount << 48)) * 0x9e3779b97f4a7c15ULL;
    return (uint32_t)(mixed >> 32) & (table->buckets - 1);
}

static uint64_t stx_device(const struct statx *stx)
{
    return makedev(stx->stx_dev_major, stx->stx_dev_minor);
}

/* The index of stx's mount, or -ENOENT. Few mounts, and most requests are for the first ones. */
static int64_t mount_find_locked(const struct fs_table *table, const struct statx *stx)
{
    uint64_t device = stx_device(stx);
    for (uint32_t i = 0; i < table->mounts; i++) {
        if (table->mount[i].mount_id == stx->stx_mnt_id && table->mount[i].device == device)
            return i;
    }
    return -ENOENT;
}

static int64_t mount_enter_locked(struct fs_table *table, const struct statx *stx)
{
    int64_t found = mount_find_locked(table, stx);
    if (found >= 0)
        return found;
    struct fs_mount *grown = reallocarray(table->mount, table->mounts + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    table->mount = grown;
    grown[table->mounts] =
        (struct fs_mount){.mount_id = stx->stx_mnt_id, .device = stx_device(stx), .flush = FS_FLUSH_UNKNOWN};
    return table->mounts++;
}

static void hash_grow_locked(struct fs_table *table)
{
    uint32_t old_buckets = table->buckets;
    struct fs_inode **grown = calloc(old_buckets * 2, sizeof(struct fs_inode *));
    if (!grown)
        return; /* longer chains, that is all */
    struct fs_inode **old = table->bucket;
    table->bucket = grown;
    table->buckets = old_buckets * 2;
    for (uint32_t i = 0; i < old_buckets; i++) {
        for (struct fs_inode *inode = old[i], *next; inode; inode = next) {
            next = inode->hash_next;
            uint32_t to = bucket_of(table, inode->mount, inode->ino);
            inode->hash_next = grown[to];
            grown[to] = inode;
        }
    }
    free(old);
}

int fs_inode_hash_locked(struct fs_table *table, struct fs_inode *inode, const struct statx *stx)
{
    int64_t mount = mount_enter_locked(table, stx);
    if (mount < 0)
        return (int)mount;
    if (table->inodes > table->buckets)
        hash_grow_locked(table);
    inode->mount = (uint32_t)mount;
    inode->ino = stx->stx_ino;
    inode->type = stx->stx_mode & S_IFMT;
    uint32_t bucket = bucket_of(table, inode->mount, inode->ino);
    inode->hash_next = table->bucket[bucket];
    table->bucket[bucket] = inode;
    inode->hashed = true;
    return 0;
}

void fs_inode_unhash_locked(struct fs_table *table, struct fs_inode *inode)
{
    if (!inode->hashed)
        return;
    struct fs_inode **link = &table->bucket[bucket_of(table, inode->mount, inode->ino)];
    while (*link != inode)
        link = &(*link)->hash_next;
    *link = inode->hash_next;
    inode->hash_next = NULL;
    inode->hashed = false;
}

struct fs_inode *fs_inode_find_locked(struct fs_table *table, const struct statx *stx)
{
    int64_t mount = mount_find_locked(table, stx);
    if (mount < 0)
        return NULL;
    struct fs_inode *inode = table->bucket[bucket_of(table, (uint32_t)mount, stx->stx_ino)];
    while (inode && !(inode->ino == stx->stx_ino && inode->mount == (uint32_t)mount))
        inode = inode->hash_next;
    return inode;
}

bool fs_inode_is_locked(const struct fs_table *table, const struct fs_inode *inode, const struct statx *stx)
{
    const struct fs_mount *mount = &table->mount[inode->mount];
    return inode->ino == stx->stx_ino && inode->type == (stx->stx_mode & S_IFMT) &&
           mount->mount_id == stx->stx_mnt_id && mount->device == stx_device(stx);
}

bool fs_inode_is(struct fs_table *table, const struct fs_inode *inode, const struct statx *stx)
{
    pthread_mutex_lock(&table->lock);
    bool same = fs_inode_is_locked(table, inode, stx);
    pthread_mutex_unlock(&table->lock);
    return same;
}

/* ---- slots ---- */

static int slots_grow_locked(struct fs_table *table, uint32_t at_least)
{
    uint32_t slots = table->slots ? table->slots : SLOTS_MIN;
    while (slots <= at_least)
        slots *= 2;
    struct fs_slot *grown = reallocarray(table->slot, slots, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memset(grown + table->slots, 0, (slots - table->slots) * sizeof(*grown));
    table->slot = grown;
    table->slots = slots;
    return 0;
}

struct fs_inode *fs_inode_new_locked(struct fs_table *table, uint32_t index, uint32_t generation)
{
    if (table->inodes >= FS_INODES_MAX)
        return NULL;
    bool reused = index == 0 && table->free_slot != 0;
    if (index == 0)
        index = reused ? table->free_slot : table->slots_used;
    if (index >= table->slots && slots_grow_locked(table, index))
        return NULL;
    struct fs_slot *slot = &table->slot[index];
    struct fs_inode *inode = slot->inode ? NULL : calloc(1, sizeof(*inode));
    if (!inode)
        return NULL;
    if (reused)
        table->free_slot = slot->next_free;
    else
        slot->generation = generation;
    if (index >= table->slots_used)
        table->slots_used = index + 1;
    slot->inode = inode;
    inode->nodeid = (uint64_t)slot->generation << 32 | index;
    inode->fd = -1;
    inode->refs = 1;
    table->inodes++;
    return inode;
}

static void slot_free_locked(struct fs_table *table, struct fs_inode *inode)
{
    uint32_t index = (uint32_t)inode->nodeid;
    struct fs_slot *slot = &table->slot[index];
    slot->inode = NULL;
    slot->generation++; /* an old nodeid must not find the slot's next inode */
    slot->next_free = table->free_slot;
    table->free_slot = index;
    table->inodes--;
}

struct fs_inode *fs_inode_by_nodeid_locked(struct fs_table *table, uint64_t nodeid)
{
    uint32_t index = (uint32_t)nodeid;
    if (index >= table->slots_used || table->slot[index].generation != (uint32_t)(nodeid >> 32))
        return NULL;
    return table->slot[index].inode;
}

/* ---- references ---- */

void fs_deferred_run(struct fs_deferred *deferred)
{
    while (deferred->fds > 0)
        close(deferred->fd[--deferred->fds]);
    while (deferred->dead) {
        struct fs_inode *inode = deferred->dead;
        deferred->dead = inode->hash_next;
        if (inode->fd >= 0)
            close(inode->fd);
        free(inode->name);
        free(inode);
    }
}

void fs_inode_unref_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred)
{
    while (inode && --inode->refs == 0) {
        struct fs_inode *parent = inode->parent;
        int fd = fs_path_remove_locked(table, inode);
        fs_inode_unhash_locked(table, inode);
        slot_free_locked(table, inode);
        inode->fd = fd; /* closed with the rest, without the lock */
        inode->hash_next = deferred->dead;
        deferred->dead = inode;
        inode = parent;
    }
}

struct fs_inode *fs_inode_get(struct fs_table *table, uint64_t nodeid)
{
    pthread_mutex_lock(&table->lock);
    struct fs_inode *inode = fs_inode_by_nodeid_locked(table, nodeid);
    if (inode)
        inode->refs++;
    pthread_mutex_unlock(&table->lock);
    return inode;
}

struct fs_inode *fs_inode_ref(struct fs_table *table, struct fs_inode *inode)
{
    pthread_mutex_lock(&table->lock);
    inode->refs++;
    pthread_mutex_unlock(&table->lock);
    return inode;
}

void fs_inode_put(struct fs_table *table, struct fs_inode *inode)
{
    struct fs_deferred deferred = {.dead = NULL};
    pthread_mutex_lock(&table->lock);
    fs_inode_unref_locked(table, inode, &deferred);
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
}

/* ---- names ---- */

/* Names are a record of what was seen, and a host that moves directories while the guest looks can make two
 * records say that each lies in the other. Whoever would close such a ring loses its record first. */
static void break_ring_locked(struct fs_table *table, struct fs_inode *inode, struct fs_inode *parent,
                              struct fs_deferred *deferred)
{
    for (struct fs_inode *up = parent; up; up = up->parent) {
        if (up->parent == inode) {
            fs_inode_set_name_locked(table, up, NULL, NULL, deferred);
            return;
        }
    }
}

int fs_inode_set_name_locked(struct fs_table *table, struct fs_inode *inode, struct fs_inode *parent,
                             const char *name, struct fs_deferred *deferred)
{
    if (inode == table->root || inode == parent)
        return 0;
    if (parent && inode->parent == parent && strcmp(inode->name, name) == 0)
        return 0;
    char *copy = parent ? strdup(name) : NULL;
    if (parent && !copy)
        return -ENOMEM;
    if (parent && S_ISDIR(inode->type))
        break_ring_locked(table, inode, parent, deferred);
    struct fs_inode *old = inode->parent;
    free(inode->name);
    inode->name = copy;
    inode->parent = parent;
    if (parent) {
        parent->refs++;
        fs_path_unpin_locked(table, inode, deferred);
    }
    if (old)
        fs_inode_unref_locked(table, old, deferred);
    return 0;
}

static struct fs_inode *inode_make_locked(struct fs_table *table, const struct statx *stx)
{
    struct fs_inode *inode = fs_inode_new_locked(table, 0, 0);
    if (!inode)
        return NULL;
    if (fs_inode_hash_locked(table, inode, stx)) {
        slot_free_locked(table, inode);
        free(inode);
        return NULL;
    }
    return inode;
}

int fs_inode_enter(struct fs_table *table, struct fs_inode *parent, const char *name, const struct statx *stx,
                   int path_fd, uint64_t *nodeid)
{
    struct fs_deferred deferred = {.dead = NULL};
    int err = 0;
    pthread_mutex_lock(&table->lock);
    struct fs_inode *inode = fs_inode_find_locked(table, stx);
    if (inode && inode != table->root && inode->type != (stx->stx_mode & S_IFMT)) {
        fs_inode_unhash_locked(table, inode); /* the host gave the number to another file */
        inode = NULL;
    }
    if (inode)
        inode->refs++;
    else
        inode = inode_make_locked(table, stx);
    if (!inode) {
        err = table->inodes >= FS_INODES_MAX ? -ENFILE : -ENOMEM;
    } else {
        if (path_fd >= 0 && inode->fd < 0) {
            fs_path_install_locked(table, inode, path_fd, &deferred);
            fs_path_pin_locked(table, inode, &deferred);
            path_fd = -1;
        }
        if (parent)
            err = fs_inode_set_name_locked(table, inode, parent, name, &deferred);
        /* The reference taken above becomes that of nlookup, or goes. */
        if (err || inode->nlookup > 0)
            fs_inode_unref_locked(table, inode, &deferred);
        if (!err) {
            inode->nlookup++;
            *nodeid = inode->nodeid;
        }
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
    if (path_fd >= 0)
        close(path_fd);
    return err;
}

void fs_inode_forget(struct fs_table *table, uint64_t nodeid, uint64_t nlookup)
{
    struct fs_deferred deferred = {.dead = NULL};
    pthread_mutex_lock(&table->lock);
    struct fs_inode *inode = fs_inode_by_nodeid_locked(table, nodeid);
    if (inode && inode->nlookup > 0) {
        inode->nlookup -= nlookup < inode->nlookup ? nlookup : inode->nlookup;
        if (inode->nlookup == 0)
            fs_inode_unref_locked(table, inode, &deferred);
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
}

void fs_inode_moved(struct fs_table *table, const struct statx *stx, struct fs_inode *parent,
                    const char *name)
{
    struct fs_deferred deferred = {.dead = NULL};
    pthread_mutex_lock(&table->lock);
    struct fs_inode *inode = fs_inode_find_locked(table, stx);
    /* Without memory for the new name the old record stays, and leads to ESTALE. */
    if (inode)
        fs_inode_set_name_locked(table, inode, parent, name, &deferred);
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
}

bool fs_inode_data_version(struct fs_table *table, struct fs_inode *inode, uint64_t version)
{
    pthread_mutex_lock(&table->lock);
    bool same = inode->data_version == version && version != 0;
    inode->data_version = version;
    pthread_mutex_unlock(&table->lock);
    return same;
}

static enum fs_flush flush_of(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return FS_FLUSH_NEEDED;
    switch ((uint32_t)fs.f_type) {
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case CEPH_SUPER_MAGIC:
    case AFS_SUPER_MAGIC:
    case AFS_FS_MAGIC:
    case V9FS_MAGIC:
    case FUSE_SUPER_MAGIC:
        return FS_FLUSH_NEEDED;
    default:
        return FS_FLUSH_NEEDLESS;
    }
}

bool fs_inode_wants_superblock(struct fs_table *table, uint64_t nodeid)
{
    struct fs_inode *inode = fs_inode_get(table, nodeid);
    if (!inode)
        return false;
    pthread_mutex_lock(&table->lock);
    bool is = inode->parent && inode->parent->parent == table->root &&
              (strcmp(inode->name, SHARED_ROOTFS) == 0 ||
               strncmp(inode->name, SHARED_MAPPED, strlen(SHARED_MAPPED)) == 0);
    pthread_mutex_unlock(&table->lock);
    fs_inode_put(table, inode);
    return is;
}

bool fs_inode_flush_matters(struct fs_table *table, const struct fs_inode *inode, int fd)
{
    pthread_mutex_lock(&table->lock);
    enum fs_flush flush = table->mount[inode->mount].flush;
    pthread_mutex_unlock(&table->lock);
    if (flush == FS_FLUSH_UNKNOWN) {
        flush = flush_of(fd);
        pthread_mutex_lock(&table->lock);
        table->mount[inode->mount].flush = flush;
        pthread_mutex_unlock(&table->lock);
    }
    return flush == FS_FLUSH_NEEDED;
}

/* ---- the table ---- */

int fs_table_init(struct fs_table *table, int root_fd, unsigned fd_limit)
{
    *table = (struct fs_table){.fd_limit = fd_limit < 32 ? 32 : fd_limit, .buckets = BUCKETS_MIN};
    table->lru.lru_next = table->lru.lru_prev = &table->lru;
    pthread_mutex_init(&table->lock, NULL);
    table->bucket = calloc(table->buckets, sizeof(struct fs_inode *));
    struct statx stx;
    int err = table->bucket ? 0 : -ENOMEM;
    if (!err && statx(root_fd, "", AT_EMPTY_PATH, FS_STATX_MASK, &stx) < 0)
        err = -errno;
    if (!err && !S_ISDIR(stx.stx_mode))
        err = -ENOTDIR;
    if (!err) {
        table->root = fs_inode_new_locked(table, FUSE_ROOT_ID, 0);
        err = table->root ? fs_inode_hash_locked(table, table->root, &stx) : -ENOMEM;
    }
    if (err) {
        close(root_fd);
        fs_table_fini(table);
        return err;
    }
    table->root->fd = root_fd; /* never idle, never closed, not counted */
    table->root->fd_users = 1;
    return 0;
}

void fs_table_clear(struct fs_table *table)
{
    struct fs_deferred deferred = {.dead = NULL};
    pthread_mutex_lock(&table->lock);
    for (uint32_t i = 0; i < table->slots_used; i++) {
        struct fs_inode *inode = table->slot[i].inode;
        if (inode && inode->nlookup > 0) {
            inode->nlookup = 0;
            fs_inode_unref_locked(table, inode, &deferred);
        }
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
}

void fs_table_fini(struct fs_table *table)
{
    fs_table_clear(table);
    if (table->root) {
        if (table->root->fd >= 0)
            close(table->root->fd);
        free(table->root);
    }
    free(table->slot);
    free(table->bucket);
    free(table->mount);
    pthread_mutex_destroy(&table->lock);
}
