/*
 * The way back from an inode to the file: the bounded cache of O_PATH fds, the walk that reopens one, and
 * what happens when names go away. See inode.h.
 *
 * Trust boundary: names and directories change under us, by other requests of the guest and by the host. One
 * component at a time is resolved below an O_PATH fd, nothing is followed, and what is found is compared with
 * what was wanted.
 */
#include "vmm/fs/inode_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RACES_MAX 16 /* how often a walk, or a look at a name, starts again because names moved meanwhile */

/* ---- the cache of fds ---- */

static void lru_remove(struct fs_inode *inode)
{
    if (!inode->lru_next)
        return;
    inode->lru_next->lru_prev = inode->lru_prev;
    inode->lru_prev->lru_next = inode->lru_next;
    inode->lru_next = inode->lru_prev = NULL;
}

static void lru_append(struct fs_table *table, struct fs_inode *inode)
{
    inode->lru_next = &table->lru;
    inode->lru_prev = table->lru.lru_prev;
    inode->lru_prev->lru_next = inode;
    table->lru.lru_prev = inode;
}

static void evict_locked(struct fs_table *table, struct fs_deferred *deferred)
{
    while (table->fds > table->fd_limit && table->lru.lru_next != &table->lru &&
           deferred->fds < FS_DEFERRED_FDS)
        deferred->fd[deferred->fds++] = fs_path_remove_locked(table, table->lru.lru_next);
}

/* An fd that nobody uses: into the list, from where it may be closed. */
static void idle_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred)
{
    if (inode->fd >= 0 && inode->fd_users == 0 && !inode->pinned) {
        lru_append(table, inode);
        evict_locked(table, deferred);
    }
}

void fs_path_install_locked(struct fs_table *table, struct fs_inode *inode, int fd,
                            struct fs_deferred *deferred)
{
    inode->fd = fd;
    table->fds++;
    idle_locked(table, inode, deferred);
    evict_locked(table, deferred);
}

int fs_path_remove_locked(struct fs_table *table, struct fs_inode *inode)
{
    int fd = inode->fd;
    if (fd < 0)
        return -1;
    lru_remove(inode);
    if (inode->pinned)
        table->pins--;
    inode->pinned = false;
    inode->fd = -1;
    table->fds--;
    return fd;
}

static int use_locked(struct fs_inode *inode)
{
    lru_remove(inode);
    inode->fd_users++;
    return inode->fd;
}

void fs_path_unuse_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred)
{
    inode->fd_users--;
    idle_locked(table, inode, deferred);
}

void fs_path_pin_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred)
{
    /* A guest that hoards nameless files must not take the fds that all else needs: beyond half of them a
     * nameless file is lost (ESTALE) as soon as its fd is the one idle for longest. */
    if (inode->fd < 0 || inode->pinned || table->pins >= table->fd_limit / 2)
        return;
    lru_remove(inode);
    inode->pinned = true;
    table->pins++;
    evict_locked(table, deferred);
}

void fs_path_unpin_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred)
{
    if (!inode->pinned)
        return;
    inode->pinned = false;
    table->pins--;
    idle_locked(table, inode, deferred);
}

int fs_table_take_handle(struct fs_table *table)
{
    struct fs_deferred deferred = {.dead = NULL};
    int err = 0;
    pthread_mutex_lock(&table->lock);
    /* A quarter stays for the way to the files. */
    if (table->handles >= table->fd_limit - table->fd_limit / 4) {
        err = -ENFILE;
    } else {
        table->handles++;
        table->fds++;
        evict_locked(table, &deferred);
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
    return err;
}

void fs_table_drop_handle(struct fs_table *table)
{
    pthread_mutex_lock(&table->lock);
    table->handles--;
    table->fds--;
    pthread_mutex_unlock(&table->lock);
}

/* ---- the walk ---- */

int fs_openat_path(int dir_fd, const char *name)
{
    struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS};
    long fd = -1;
    /* EXDEV: the file has left the directory between the look at its name and the check that it is beneath.
     * Another of that name may be there by now; one that comes and goes without end is not. */
    for (unsigned i = 0; i < RACES_MAX && fd < 0; i++) {
        fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
        if (fd < 0 && errno != EXDEV)
            return -errno;
    }
    return fd < 0 ? -ENOENT : (int)fd;
}

/* The ancestors of `inode` without an fd, topmost first, each referenced, ending with the inode itself; below
 * *top, which has an fd that is now in use. The number of them, or -errno. */
static int walk_plan(struct fs_table *table, struct fs_inode *inode, struct fs_inode **top,
                     struct fs_inode ***chain)
{
    int err = 0;
    pthread_mutex_lock(&table->lock);
    unsigned depth = 0;
    struct fs_inode *up = inode;
    for (; up->fd < 0 && up->parent; up = up->parent)
        depth++;
    struct fs_inode **list = NULL;
    if (up->fd < 0)
        err = -ESTALE; /* it has lost its name */
    else if (depth > 0 && !(list = calloc(depth, sizeof(struct fs_inode *))))
        err = -ENOMEM;
    if (!err) {
        *top = up;
        up->refs++;
        use_locked(up);
        struct fs_inode *step = inode;
        for (unsigned i = depth; i > 0; i--, step = step->parent) {
            step->refs++;
            list[i - 1] = step;
        }
    }
    pthread_mutex_unlock(&table->lock);
    *chain = list;
    return err ? err : (int)depth;
}

/* Gives `inode` the fd that was opened by its record if it is the inode, and marks it in use. */
static int walk_install(struct fs_table *table, struct fs_inode *inode, int fd)
{
    struct fs_deferred deferred = {.dead = NULL};
    struct statx stx;
    if (statx(fd, "", AT_EMPTY_PATH, FS_STATX_MASK, &stx) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    int result = fd;
    pthread_mutex_lock(&table->lock);
    if (!fs_inode_is_locked(table, inode, &stx)) {
        result = -ESTALE;
    } else if (inode->fd < 0) {
        inode->fd_users++;
        fs_path_install_locked(table, inode, fd, &deferred);
        fd = -1;
    } else {
        result = use_locked(inode); /* another thread was quicker */
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
    if (fd >= 0)
        close(fd);
    return result;
}

/* Opens `inode`, whose parent should be `parent` with the fd `dir_fd`. -EAGAIN when it is elsewhere by now.
 */
static int walk_step(struct fs_table *table, struct fs_inode *parent, int dir_fd, struct fs_inode *inode)
{
    char name[NAME_MAX + 1];
    pthread_mutex_lock(&table->lock);
    int fd = inode->fd >= 0 ? use_locked(inode) : -1;
    bool here = inode->parent == parent;
    if (fd < 0 && here)
        memcpy(name, inode->name, strlen(inode->name) + 1);
    pthread_mutex_unlock(&table->lock);
    if (fd >= 0)
        return fd;
    if (!here)
        return -EAGAIN;
    fd = fs_openat_path(dir_fd, name);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
    return walk_install(table, inode, fd);
}

/* One walk down. The fd, in use, or -errno. */
static int walk(struct fs_table *table, struct fs_inode *inode)
{
    struct fs_inode *at, **chain;
    int depth = walk_plan(table, inode, &at, &chain);
    if (depth < 0)
        return depth;
    int fd = at->fd; /* stable while in use */
    struct fs_deferred deferred = {.dead = NULL};
    for (int i = 0; i < depth; i++) {
        int next = fd < 0 ? fd : walk_step(table, at, fd, chain[i]);
        pthread_mutex_lock(&table->lock);
        if (fd >= 0)
            fs_path_unuse_locked(table, at, &deferred);
        fs_inode_unref_locked(table, at, &deferred);
        pthread_mutex_unlock(&table->lock);
        fs_deferred_run(&deferred);
        at = chain[i];
        fd = next;
    }
    /* The caller has a reference of its own. */
    fs_inode_put(table, at);
    free(chain);
    return fd;
}

int fs_path_get(struct fs_table *table, struct fs_inode *inode)
{
    pthread_mutex_lock(&table->lock);
    int fd = inode->fd >= 0 ? use_locked(inode) : -EAGAIN;
    pthread_mutex_unlock(&table->lock);
    for (int race = 0; fd == -EAGAIN && race < RACES_MAX; race++)
        fd = walk(table, inode);
    return fd == -EAGAIN ? -ESTALE : fd;
}

void fs_path_put(struct fs_table *table, struct fs_inode *inode)
{
    struct fs_deferred deferred = {.dead = NULL};
    pthread_mutex_lock(&table->lock);
    fs_path_unuse_locked(table, inode, &deferred);
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
}

/* statx through the record. -EAGAIN when the inode has an fd or was moved meanwhile. */
static int stat_by_name(struct fs_table *table, struct fs_inode *inode, struct statx *stx)
{
    char name[NAME_MAX + 1];
    pthread_mutex_lock(&table->lock);
    struct fs_inode *parent = inode->fd < 0 ? inode->parent : NULL;
    if (parent) {
        parent->refs++;
        memcpy(name, inode->name, strlen(inode->name) + 1);
    }
    pthread_mutex_unlock(&table->lock);
    if (!parent)
        return -EAGAIN;
    int fd = fs_path_get(table, parent);
    int err = fd < 0 ? fd : 0;
    if (!err && statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, FS_STATX_MASK, stx) < 0)
        err = -errno;
    if (fd >= 0)
        fs_path_put(table, parent);
    fs_inode_put(table, parent);
    if (!err && !fs_inode_is(table, inode, stx))
        err = -ENOENT;
    return err == -ENOENT || err == -ENOTDIR ? -EAGAIN : err;
}

int fs_inode_stat(struct fs_table *table, struct fs_inode *inode, struct statx *stx)
{
    int err = stat_by_name(table, inode, stx);
    if (err != -EAGAIN)
        return err;
    int fd = fs_path_get(table, inode);
    if (fd < 0)
        return fd;
    err = statx(fd, "", AT_EMPTY_PATH, FS_STATX_MASK, stx) < 0 ? -errno : 0;
    fs_path_put(table, inode);
    return err;
}

/* ---- names that go ---- */

int fs_victim_hold(struct fs_table *table, struct fs_inode *parent, int dir_fd, const char *name,
                   struct fs_victim *victim)
{
    *victim = (struct fs_victim){.inode = NULL};
    int fd = fs_openat_path(dir_fd, name);
    if (fd < 0)
        return fd;
    struct statx stx;
    if (statx(fd, "", AT_EMPTY_PATH, FS_STATX_MASK, &stx) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    struct fs_deferred deferred = {.dead = NULL};
    bool last_link = stx.stx_nlink <= 1 || S_ISDIR(stx.stx_mode);
    pthread_mutex_lock(&table->lock);
    struct fs_inode *inode = fs_inode_find_locked(table, &stx);
    bool recorded = inode && inode->parent == parent && strcmp(inode->name, name) == 0;
    if (inode && inode != table->root && (last_link || recorded)) {
        victim->inode = inode;
        victim->last_link = last_link;
        inode->refs++;
        inode->fd_users++;
        if (inode->fd < 0) {
            fs_path_install_locked(table, inode, fd, &deferred);
            fd = -1;
        } else {
            lru_remove(inode);
        }
    }
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
    if (fd >= 0)
        close(fd);
    return 0;
}

void fs_victim_release(struct fs_table *table, struct fs_victim *victim, bool removed)
{
    struct fs_inode *inode = victim->inode;
    if (!inode)
        return;
    struct fs_deferred deferred = {.dead = NULL};
    pthread_mutex_lock(&table->lock);
    if (removed) {
        if (victim->last_link)
            fs_inode_unhash_locked(table, inode);
        fs_inode_set_name_locked(table, inode, NULL, NULL, &deferred);
        fs_path_pin_locked(table, inode, &deferred);
    }
    fs_path_unuse_locked(table, inode, &deferred);
    fs_inode_unref_locked(table, inode, &deferred);
    pthread_mutex_unlock(&table->lock);
    fs_deferred_run(&deferred);
    victim->inode = NULL;
}
