/* The end of a VM as a JSON line: see status.h. */
#include "vmm/status.h"

#include "common/fd.h"

#include <errno.h>
#include <jansson.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>

static const char *const exit_kind_names[EXIT_KINDS] = {
    [KVM_EXIT_UNKNOWN] = "unknown",
    [KVM_EXIT_IO] = "io",
    [KVM_EXIT_HLT] = "hlt",
    [KVM_EXIT_MMIO] = "mmio",
    [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq-window",
    [KVM_EXIT_SHUTDOWN] = "shutdown",
    [KVM_EXIT_FAIL_ENTRY] = "fail-entry",
    [KVM_EXIT_INTR] = "signal",
    [KVM_EXIT_INTERNAL_ERROR] = "internal-error",
    [KVM_EXIT_SYSTEM_EVENT] = "system-event",
    [KVM_EXIT_IOAPIC_EOI] = "ioapic-eoi",
};

const char *end_reason_name(enum end_reason reason)
{
    switch (reason) {
    case END_POWER_OFF:
        return "power-off";
    case END_VMM_ERROR:
        return "vmm-error";
    case END_RESET:
        return "reset";
    case END_PANIC:
        return "panic";
    case END_TRIPLE_FAULT:
        return "triple-fault";
    case END_INTERNAL_ERROR:
        return "internal-error";
    case END_TERMINATED:
        return "terminated";
    }
    return "vmm-error";
}

json_t *status_exits_json(const struct exit_counts *exits)
{
    json_t *object = json_object();
    uint64_t total = 0;
    for (unsigned kind = 0; kind < EXIT_KINDS; kind++) {
        if (exits->kind[kind] == 0)
            continue;
        char number[16];
        snprintf(number, sizeof(number), "kvm-%u", kind);
        const char *name = exit_kind_names[kind] ? exit_kind_names[kind] : number;
        json_object_set_new(object, name, json_integer((json_int_t)exits->kind[kind]));
        total += exits->kind[kind];
    }
    json_object_set_new(object, "total", json_integer((json_int_t)total));
    return object;
}

static void put_mark(json_t *line, const char *name, const struct status_mark *mark)
{
    if (!mark)
        return;
    json_object_set_new(line, name,
                        json_pack("{s:I, s:I, s:o}", "since_start_us", (json_int_t)mark->since_start_us,
                                  "since_run_us", (json_int_t)mark->since_run_us, "exits",
                                  status_exits_json(&mark->exits)));
}

int status_write(int fd, const struct status *status)
{
    json_t *line =
        json_pack("{s:s, s:s}", "reason", end_reason_name(status->reason), "detail", status->detail);
    if (!line)
        return -ENOMEM;
    put_mark(line, "hello", status->hello);
    put_mark(line, "end", status->end);
    char *text = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    if (!text)
        return -ENOMEM;
    /* One write, so that a reader sees a whole line or none; the NUL becomes its end. */
    size_t length = strlen(text);
    text[length] = '\n';
    int rc = fd_write_full(fd, text, length + 1);
    free(text);
    return rc;
}
