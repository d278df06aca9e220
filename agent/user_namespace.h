/*
 * User namespaces made for their mappings: of a container, or of an id-mapped mount.
 */
#ifndef HUSK_AGENT_USER_NAMESPACE_H
#define HUSK_AGENT_USER_NAMESPACE_H

#include "agent/spec.h"
#include "common/error.h"

/* Makes a user namespace with these maps, which the caller's right over its own user namespace allows to be
 * any (user_namespaces(7)), and in which setgroups(2) is allowed. Nobody is in it. Its fd, the caller's, or
 * -1 with err naming the map that the kernel refused. Forks for a moment and waits for that child. */
int user_namespace_new(const struct spec_id_maps *maps, struct error *err);

#endif
