/*
 * Inside the inode table: what inode.c (identity, counts), inode_path.c (fds and names) and fs_snapshot.c
 * share. Functions named _locked want table->lock held.
 */
#ifndef HUSK_VMM_FS_INODE_INTERNAL_H
#define HUSK_VMM_FS_INODE_INTERNAL_H

#include "vmm/fs/inode.h"

#define FS_INODES_MAX (1U << 24) /* what one guest may make us remember: 2.7 GiB */

/* Work that must wait until the lock is dropped: fds to close, inodes to free. Starts as FS_DEFERRED_INIT. */
#define FS_DEFERRED_FDS 8
struct fs_deferred {
    struct fs_inode *dead;
    int fd[FS_DEFERRED_FDS];
    unsigned fds;
};
void fs_deferred_run(struct fs_deferred *deferred);

/* Drops one reference; the inode and ancestors that only it kept go to `deferred`. */
void fs_inode_unref_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred);
/* Records where the inode is. parent NULL: nowhere. 0 or -ENOMEM (the record is then unchanged). */
int fs_inode_set_name_locked(struct fs_table *table, struct fs_inode *inode, struct fs_inode *parent,
                             const char *name, struct fs_deferred *deferred);
struct fs_inode *fs_inode_find_locked(struct fs_table *table, const struct statx *stx);
struct fs_inode *fs_inode_by_nodeid_locked(struct fs_table *table, uint64_t nodeid);
bool fs_inode_is_locked(const struct fs_table *table, const struct fs_inode *inode, const struct statx *stx);
/* Makes the inode unfindable by its key. */
void fs_inode_unhash_locked(struct fs_table *table, struct fs_inode *inode);
/* Sets mount, ino and type from stx and puts the inode into the hash. 0 or -ENOMEM. */
int fs_inode_hash_locked(struct fs_table *table, struct fs_inode *inode, const struct statx *stx);
/* A new inode in slot `index` (0: any free one) with one reference. NULL without memory or when full. */
struct fs_inode *fs_inode_new_locked(struct fs_table *table, uint32_t index, uint32_t generation);

/* Gives the inode its fd and takes it from it. */
void fs_path_install_locked(struct fs_table *table, struct fs_inode *inode, int fd,
                            struct fs_deferred *deferred);
int fs_path_remove_locked(struct fs_table *table, struct fs_inode *inode);
void fs_path_unuse_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred);
/* Without a name any more: the fd stays if there is room for it. */
void fs_path_pin_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred);
void fs_path_unpin_locked(struct fs_table *table, struct fs_inode *inode, struct fs_deferred *deferred);

#endif
