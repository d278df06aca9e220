/*
 * A bundle (OCI runtime-spec "Filesystem Bundle"): its directory, its config.json, and what the host's side
 * needs of it. The agent gets config.json as it came and judges all the rest.
 */
#ifndef HUSK_SHIM_BUNDLE_H
#define HUSK_SHIM_BUNDLE_H

#include "common/error.h"
#include "shim/host_disks.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* A mount whose source is the host's: its tree is attached to the sandbox. */
struct bundle_mount {
    size_t index; /* in config.json's mounts */
    char *source; /* absolute */
    bool recursive;
    bool idmap;      /* the guest maps its ids */
    json_t *overlay; /* not a tree but layers of one (shim/overlay_mount.h); NULL otherwise */
};

struct bundle {
    char *path;               /* absolute, links resolved */
    char *config;             /* the same, of a config.json that is not the bundle's own, or NULL */
    json_t *spec;             /* as it came, but for overlay mounts, which have become binds */
    const char *oci_version;  /* borrowed from spec, like the following */
    json_t *annotations;      /* or NULL */
    json_t *hooks;            /* or NULL */
    json_t *resources;        /* linux.resources, or NULL */
    const char *cgroups_path; /* linux.cgroupsPath, or NULL */
    bool has_process;
    bool terminal;
    unsigned short rows, columns; /* process.consoleSize; 0: not given */
    bool has_oom_score_adj;
    int oom_score_adj;
    char *rootfs; /* absolute */
    struct bundle_mount *mounts;
    size_t mount_count;
    struct host_disks disks; /* block devices of the host */
};

/* Reads a bundle's config.json, or with `config` that file. New reference, or NULL with err filled. */
json_t *bundle_read_config(const char *bundle, const char *config, struct error *err);

/* Loads and checks a bundle, with `config` (or NULL) in place of its config.json. 0, or -1 with err filled,
 * naming the file or the member. Undone by bundle_fini, also after a failure. */
int bundle_load(struct bundle *bundle, const char *path, const char *config, struct error *err);
void bundle_fini(struct bundle *bundle);

#endif
