/*
 * Device rules of a cgroup, as the BPF program that version 2 wants for them.
 */
#ifndef HUSK_AGENT_CGROUP_DEVICES_H
#define HUSK_AGENT_CGROUP_DEVICES_H

#include "agent/spec.h"
#include "common/error.h"

/* Attaches a program that allows what the rules, the last matching one first, and the specification's default
 * devices allow. Replaces one attached before. 0 or -1. */
int cgroup_devices_set(int cgroup_fd, const struct spec_device_rule *rules, size_t count, struct error *err);

#endif
