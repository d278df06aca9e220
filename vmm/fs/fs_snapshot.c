/*
 * The file server in a snapshot: the session, inodes as (nodeid, parent, name), handles as (fh, inode,
 * flags).
 *
 * Nothing of the host's own identity is written: a restored server finds the files by their names below its
 * own root, which may be a copy. Trust boundary: the snapshot may be hostile; names go through the same
 * lookup as the guest's, and indices are bounded before they size a table. Called by virtio_fs.c.
 */
#include "vmm/fs/fuse_server.h"
#include "vmm/fs/inode_internal.h"
#include "vmm/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_FLAGS (O_ACCMODE | O_NOATIME | O_DIRECTORY)

/* ---- save ---- */

/* An inode that the guest was told of, and how it is found again. */
static void save_inode(const struct fs_inode *inode, struct snapshot_writer *writer)
{
    snapshot_put_u64(writer, inode->nodeid);
    snapshot_put_u64(writer, inode->parent ? inode->parent->nodeid : 0);
    snapshot_put_u64(writer, inode->nlookup);
    snapshot_put_u16(writer, inode->type);
    const char *name = inode->name ? inode->name : "";
    snapshot_put_bytes(writer, name, strlen(name));
}

/* Saves the inode after those ancestors that are not saved yet: restore then knows each parent. */
static int save_chain(struct fs_table *table, struct fs_inode *inode, uint8_t *saved,
                      struct snapshot_writer *writer)
{
    for (;;) {
        struct fs_inode *next = inode;
        while (next->parent && !saved[(uint32_t)next->parent->nodeid])
            next = next->parent;
        if (saved[(uint32_t)next->nodeid])
            return 0;
        if (!next->parent && next != table->root && next->fd >= 0) {
            log_err("virtio-fs: not saved: inode %llu is in use by the guest and has no name any more",
                    (unsigned long long)next->ino);
            return -ESTALE;
        }
        save_inode(next, writer);
        saved[(uint32_t)next->nodeid] = 1;
        if (next == inode)
            return 0;
    }
}

static int save_inodes(struct fs_table *table, struct snapshot_writer *writer)
{
    uint8_t *saved = calloc(table->slots_used, 1);
    if (!saved)
        return -ENOMEM;
    int err = 0;
    snapshot_put_u32(writer, table->inodes);
    for (uint32_t i = 0; !err && i < table->slots_used; i++) {
        if (table->slot[i].inode)
            err = save_chain(table, table->slot[i].inode, saved, writer);
    }
    free(saved);
    return err;
}

static int save_handles(struct fs_handles *handles, struct snapshot_writer *writer)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < handles->slots_used && i < handles->slots; i++)
        count += handles->slot[i].handle != NULL;
    snapshot_put_u32(writer, count);
    for (uint32_t i = 0; i < handles->slots_used && i < handles->slots; i++) {
        const struct fs_handle *handle = handles->slot[i].handle;
        if (!handle)
            continue;
        if (!handle->inode->parent && handle->inode != handles->table->root) {
            log_err("virtio-fs: not saved: inode %llu is open in the guest and has no name any more",
                    (unsigned long long)handle->inode->ino);
            return -ESTALE;
        }
        snapshot_put_u64(writer, handle->fh);
        snapshot_put_u64(writer, handle->inode->nodeid);
        snapshot_put_u32(writer, (uint32_t)handle->flags);
        snapshot_put_u8(writer, handle->dir != NULL);
    }
    return 0;
}

int fs_server_save(struct fs_server *server, struct snapshot_writer *writer)
{
    snapshot_put_u8(writer, atomic_load(&server->initialised));
    snapshot_put_u64(writer, atomic_load(&server->flags));
    snapshot_put_u32(writer, atomic_load(&server->minor));
    pthread_mutex_lock(&server->table.lock);
    int err = save_inodes(&server->table, writer);
    if (!err)
        err = save_handles(&server->handles, writer);
    pthread_mutex_unlock(&server->table.lock);
    return err;
}

/* ---- restore ---- */

struct saved_inode {
    uint64_t nodeid, parent, nlookup;
    uint16_t type;
    char name[NAME_MAX + 1];
};

static int read_inode(struct snapshot_reader *reader, struct saved_inode *saved)
{
    saved->nodeid = snapshot_get_u64(reader);
    saved->parent = snapshot_get_u64(reader);
    saved->nlookup = snapshot_get_u64(reader);
    saved->type = snapshot_get_u16(reader);
    size_t length = 0;
    const void *name = snapshot_get_blob(reader, NAME_MAX, &length);
    if (snapshot_reader_error(reader) || (uint32_t)saved->nodeid >= FS_INODES_MAX)
        return -EPROTO;
    memcpy(saved->name, name, length);
    saved->name[length] = '\0';
    bool component = length > 0 && strlen(saved->name) == length && !strchr(saved->name, '/') &&
                     strcmp(saved->name, ".") != 0 && strcmp(saved->name, "..") != 0;
    return saved->parent && !component ? -EPROTO : 0;
}

/* What the name leads to here, which must be of the saved type. */
static int find_saved(struct fs_table *table, struct fs_inode *parent, const struct saved_inode *saved,
                      struct statx *stx)
{
    int dir_fd = fs_path_get(table, parent);
    if (dir_fd < 0)
        return dir_fd;
    int err = statx(dir_fd, saved->name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX_MASK, stx) < 0
                  ? -errno
                  : 0;
    fs_path_put(table, parent);
    return !err && (stx->stx_mode & S_IFMT) != saved->type ? -ENOENT : err;
}

/* Enters the inode under its old nodeid. Without `stx` it is known but leads nowhere (ESTALE). */
static int enter_saved(struct fs_table *table, struct fs_inode *parent, const struct saved_inode *saved,
                       const struct statx *stx)
{
    struct fs_deferred deferred = {.dead = NULL};
    int err = 0;
    pthread_mutex_lock(&table->lock);
    struct fs_inode *inode =
        fs_inode_new_locked(table, (uint32_t)saved->nodeid, (uint32_t)(saved->nodeid >> 32));
    if (!inode) {
        err = -EPROTO; /* twice the same, or index 0 */
    } else {
        inode->type = saved->type;
        inode->nlookup = saved->nlookup;
        if (stx && !fs_inode_find_locked(table, stx))
            err = fs_inode_hash_locked(table, inode, stx);
        if (!err && stx)
            err = fs_inode_set_name_locked(table, inode, parent, saved->name, &deferred);
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
    return err;
}

static int restore_inode(struct fs_table *table, struct snapshot_reader *reader)
{
    struct saved_inode saved;
    int err = read_inode(reader, &saved);
    if (err)
        return err;
    if (saved.nodeid == FUSE_ROOT_ID) {
        /* The one reference that any number of lookups stands for. */
        if (saved.nlookup > 0)
            fs_inode_ref(table, table->root);
        table->root->nlookup = saved.nlookup;
        return 0;
    }
    struct fs_inode *parent = saved.parent ? fs_inode_get(table, saved.parent) : NULL;
    if (saved.parent && !parent)
        return -EPROTO;
    struct statx stx;
    err = parent ? find_saved(table, parent, &saved, &stx) : -ENOENT;
    if (err == -ENOENT || err == -ENOTDIR || err == -ESTALE) {
        log_warn("virtio-fs: restored without the file it had: name=%s", saved.name);
        err = enter_saved(table, NULL, &saved, NULL);
    } else if (!err) {
        err = enter_saved(table, parent, &saved, &stx);
    }
    if (parent)
        fs_inode_put(table, parent);
    return err;
}

static int restore_handle(struct fs_server *server, struct snapshot_reader *reader)
{
    uint64_t fh = snapshot_get_u64(reader);
    uint64_t nodeid = snapshot_get_u64(reader);
    int flags = (int)snapshot_get_u32(reader);
    bool is_dir = snapshot_get_u8(reader);
    if (snapshot_reader_error(reader) || flags & ~HANDLE_FLAGS)
        return -EPROTO;
    struct fs_inode *inode = fs_inode_get(&server->table, nodeid);
    if (!inode || S_ISDIR(inode->type) != is_dir) {
        if (inode)
            fs_inode_put(&server->table, inode);
        return -EPROTO;
    }
    int fd = fs_server_open(server, inode, flags);
    int err = fd < 0 ? fd : fs_handle_restore(&server->handles, inode, fd, flags, is_dir, fh);
    if (err)
        log_err("virtio-fs: not restored: an open file: %s", strerror(-err));
    fs_inode_put(&server->table, inode);
    return err;
}

/* Inodes that the guest does not look up any more are there for their children and handles, which hold them
 * by now. */
static void drop_unlooked(struct fs_table *table)
{
    struct fs_deferred deferred = {.dead = NULL};
    pthread_mutex_lock(&table->lock);
    for (uint32_t i = 0; i < table->slots_used; i++) {
        struct fs_inode *inode = table->slot[i].inode;
        if (inode && inode != table->root && inode->nlookup == 0)
            fs_inode_unref_locked(table, inode, &deferred);
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
}

int fs_server_restore(struct fs_server *server, struct snapshot_reader *reader)
{
    bool initialised = snapshot_get_u8(reader);
    uint64_t flags = snapshot_get_u64(reader);
    uint32_t minor = snapshot_get_u32(reader);
    uint32_t inodes = snapshot_get_u32(reader);
    int err = snapshot_reader_error(reader);
    for (uint32_t i = 0; !err && i < inodes; i++)
        err = restore_inode(&server->table, reader);
    uint32_t handles = err ? 0 : snapshot_get_u32(reader);
    for (uint32_t i = 0; !err && i < handles; i++)
        err = restore_handle(server, reader);
    if (!err)
        err = snapshot_reader_error(reader);
    drop_unlooked(&server->table);
    if (err)
        return err;
    atomic_store(&server->flags, flags);
    atomic_store(&server->minor, minor);
    atomic_store(&server->initialised, initialised);
    return 0;
}
