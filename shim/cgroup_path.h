/*
 * What linux.cgroupsPath means under each manager: pure text work, for host_cgroup.c.
 */
#ifndef HUSK_SHIM_CGROUP_PATH_H
#define HUSK_SHIM_CGROUP_PATH_H

#include "common/error.h"

#include <stdbool.h>

/* Resolves "//", "." and ".." as if the path were a root of its own ("../a" is "a"): whatever comes in, the
 * result stays below where it starts. Keeps whether it is absolute. Heap; NULL when memory is short. */
char *cgroup_path_clean(const char *path);

/* The cgroup below a hierarchy's mount point that `path` (NULL: the ID) means for a process in `own`.
 * Absolute, heap; or NULL with err filled: "/" is nobody's cgroup. */
char *cgroup_path_resolve(const char *path, const char *id, const char *own, bool version2,
                          struct error *err);

/* Takes "slice:prefix:name" apart into the names of the slice and of the unit (both heap). path NULL: the
 * defaults. 0, or -1 with err. */
int cgroup_path_parse_systemd(const char *path, const char *id, bool user, char **slice, char **unit,
                              struct error *err);

/* The cgroup of a slice: "a-b.slice" lies in "/a.slice/a-b.slice" (systemd.slice(5)); "-.slice" in "/". Heap,
 * or NULL with err. */
char *cgroup_path_expand_slice(const char *slice, struct error *err);

#endif
