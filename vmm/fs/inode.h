/*
 * The inode table: what the guest knows of the shared tree, and the bounded set of fds that stand for it.
 *
 * An inode is known by (mount, inode number) on the host and by a nodeid to the guest. It remembers the last
 * (parent, name) by which this server saw it. O_PATH fds are only a cache over these names: when they run
 * out, the one not used for longest is closed, and opened again by walking down from the nearest ancestor
 * that still has one; what is found must be the same inode, else the request gets ESTALE. An inode that loses
 * its name while the guest knows it keeps its fd ("pinned").
 *
 * Trust boundary: nodeids and lookup counts come from the guest. A nodeid is an index with a generation, and
 * what keeps an inode alive is a count of our own: the guest's forgets can only give back what lookups gave.
 *
 * All functions may be called from any thread; the table has one lock, never held across a system call that
 * can block.
 */
#ifndef HUSK_VMM_FS_INODE_H
#define HUSK_VMM_FS_INODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* What the server asks of statx: the fuse_attr fields, birth time and the mount. */
#define FS_STATX_MASK (STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID)

/* One file: about 170 bytes with its name, its slot and its share of the hash. Fields belong to the table's
 * lock but `nodeid` and `type`, which never change. */
struct fs_inode {
    struct fs_inode *hash_next;           /* also links the dead until they are freed */
    struct fs_inode *parent;              /* counted in its refs; NULL: the root, or without a name */
    struct fs_inode *lru_prev, *lru_next; /* in the list of idle fds */
    char *name;                           /* heap; NULL when parent is */
    uint64_t ino;
    uint64_t nodeid;
    uint64_t nlookup;      /* how often the guest was told of it */
    uint64_t data_version; /* of the data the guest may have cached: see fs_inode_data_version */
    uint32_t mount;        /* index into the table's mounts */
    uint32_t refs;         /* requests, handles, children, and 1 while nlookup > 0 */
    uint32_t fd_users;     /* the fd is in use and stays open */
    int fd;                /* O_PATH, or -1 */
    uint16_t type;         /* S_IFMT bits */
    bool hashed;           /* found by its key; not any more when its last link is gone */
    bool pinned;           /* the fd is the only way to it */
};

struct fs_slot {
    struct fs_inode *inode;
    uint32_t generation;
    uint32_t next_free;
};

/* Whether closing a file can report an error of an earlier write: on network filesystems. */
enum fs_flush { FS_FLUSH_UNKNOWN, FS_FLUSH_NEEDLESS, FS_FLUSH_NEEDED };

struct fs_mount {
    uint64_t mount_id;
    uint64_t device;
    enum fs_flush flush; /* unknown until a file is opened */
};

struct fs_table {
    pthread_mutex_t lock;
    struct fs_inode *root;
    struct fs_slot *slot;
    uint32_t slots, slots_used, free_slot;
    struct fs_inode **bucket;
    uint32_t buckets; /* a power of 2 */
    uint32_t inodes;
    struct fs_mount *mount;
    uint32_t mounts;
    struct fs_inode lru; /* head: lru_next was idle for longest */
    unsigned fds;        /* open for inodes, and handles */
    unsigned handles;
    unsigned pins;
    unsigned fd_limit;
};

/* An empty table whose root is root_fd (O_PATH or not, a directory): the table's from here on, also on
 * failure. fd_limit is the number of fds that inodes and handles may hold together, at least 32; up to four
 * more for each thread can be open for moments. 0; -ENOTDIR; -ENOMEM; errors of statx. */
int fs_table_init(struct fs_table *table, int root_fd, unsigned fd_limit);
void fs_table_fini(struct fs_table *table);
/* Forgets all the guest was told of; what requests or handles still use goes with them. */
void fs_table_clear(struct fs_table *table);

/* The inode with that nodeid, referenced, or NULL. */
struct fs_inode *fs_inode_get(struct fs_table *table, uint64_t nodeid);
/* One more reference to an inode that the caller has one to. */
struct fs_inode *fs_inode_ref(struct fs_table *table, struct fs_inode *inode);
void fs_inode_put(struct fs_table *table, struct fs_inode *inode);

/* The guest is being told of the file that `stx` (FS_STATX_MASK) describes, seen as `name` in `parent`; finds
 * or makes its inode and counts one lookup. parent NULL: a file without a name (O_TMPFILE); its fd, O_PATH,
 * is then given in path_fd and is the table's from here on, also on failure; else path_fd is -1. 0 with
 * *nodeid; -ENOMEM; -ENFILE when the table is full. */
int fs_inode_enter(struct fs_table *table, struct fs_inode *parent, const char *name, const struct statx *stx,
                   int path_fd, uint64_t *nodeid);
/* Takes back at most `nlookup` lookups. An unknown nodeid is ignored. */
void fs_inode_forget(struct fs_table *table, uint64_t nodeid, uint64_t nlookup);
/* Whether `stx` describes this inode. */
bool fs_inode_is(struct fs_table *table, const struct fs_inode *inode, const struct statx *stx);

/* Compares `version` with that of the data the guest may have cached, keeps it, and tells whether they were
 * equal. Zero is equal to nothing. */
bool fs_inode_data_version(struct fs_table *table, struct fs_inode *inode, uint64_t version);
/* Whether closing a file of this inode's filesystem can report an error of an earlier write. fd: the open
 * file. */
bool fs_inode_flush_matters(struct fs_table *table, const struct fs_inode *inode, int fd);
/* Whether it is the root of a container's filesystem, or of a tree that the guest will id-map, by its place
 * and name below the shared tree's root: not to be a superblock of its own in the guest. */
bool fs_inode_wants_superblock(struct fs_table *table, uint64_t nodeid);

/* An O_PATH fd of the inode for the caller until fs_path_put. The fd, or -errno: -ESTALE when its name leads
 * elsewhere by now; -ENFILE and other errors of openat2. */
int fs_path_get(struct fs_table *table, struct fs_inode *inode);
void fs_path_put(struct fs_table *table, struct fs_inode *inode);
/* statx of the inode by the cheapest way: its fd if it is open, else parent and name. 0; -ESTALE. */
int fs_inode_stat(struct fs_table *table, struct fs_inode *inode, struct statx *stx);
/* Opens `name` below dir_fd as O_PATH without following anything. The fd or -errno. */
int fs_openat_path(int dir_fd, const char *name);

/* A name about to disappear. Between hold and release its inode cannot lose its fd. */
struct fs_victim {
    struct fs_inode *inode; /* referenced; NULL when the guest knows none by this name */
    bool last_link;
};
/* Looks up what `name` in `parent` (whose fd is dir_fd) is, before it is removed or replaced. -ENOENT when
 * there is nothing. */
int fs_victim_hold(struct fs_table *table, struct fs_inode *parent, int dir_fd, const char *name,
                   struct fs_victim *victim);
void fs_victim_release(struct fs_table *table, struct fs_victim *victim, bool removed);

/* The file described by `stx` is now `name` in `parent`. Without an inode for it nothing happens. */
void fs_inode_moved(struct fs_table *table, const struct statx *stx, struct fs_inode *parent,
                    const char *name);

/* Room for a handle's fd, closing an idle inode's when needed. 0 or -ENFILE. */
int fs_table_take_handle(struct fs_table *table);
void fs_table_drop_handle(struct fs_table *table);

#endif
