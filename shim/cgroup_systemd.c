/*
 * Transient scopes of systemd: see cgroup_systemd.h. What a bus answers is believed as far as the caller lets
 * itself be moved; where it was moved to, host_cgroup.c looks up in /proc.
 */
#include "shim/cgroup_systemd.h"

#include "common/fd.h"
#include "shim/cgroup_limits.h"
#include "shim/deadline.h"
#include "shim/sd_bus_library.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DESTINATION "org.freedesktop.systemd1"
#define OBJECT      "/org/freedesktop/systemd1"
#define MANAGER     "org.freedesktop.systemd1.Manager"
#define UNIT        "org.freedesktop.systemd1.Unit"
/* Where systemd answers root directly, without a bus. */
#define PRIVATE_ADDRESS "unix:path=/run/systemd/private"

#define JOB_TIMEOUT_MS  30000
#define CHILD_TIMEOUT_S 90
#define USEC_PER_SEC    1000000ull
#define QUOTA_STEP_USEC 10000ull /* systemd keeps whole percents of a CPU */
#define NUMBERS_BYTES   1024     /* of a set of CPUs: 8192 */

/* One conversation, in its own process. */
struct talk {
    struct sd_bus_library lib;
    sd_bus *bus;
    const struct systemd_scope *scope;
    const struct host_resources *limits;
    pid_t pid;
    char job[256];   /* object path of the job waited for */
    char result[64]; /* how it ended; "" while it runs */
};

/* --- One process a conversation ------------------------------------------------ */

static int talk_open(struct talk *talk, struct error *err)
{
    char address[64];
    int result;
    if (sd_bus_library_load(&talk->lib, err) < 0)
        return -1;
    if (talk->scope->user) {
        /* Engines strip the environment in which the user's bus stands. */
        snprintf(address, sizeof(address), "/run/user/%u", (unsigned)geteuid());
        setenv("XDG_RUNTIME_DIR", address, 0);
        result = talk->lib.sd_bus_open_user(&talk->bus);
    } else {
        result = talk->lib.sd_bus_open_system(&talk->bus);
    }
    if (result >= 0 || talk->scope->user)
        return result >= 0 ? 0 : error_set(err, -result, "connect to systemd's bus");
    int first = result;
    result = talk->lib.sd_bus_new(&talk->bus);
    if (result >= 0)
        result = talk->lib.sd_bus_set_address(talk->bus, PRIVATE_ADDRESS);
    if (result >= 0)
        result = talk->lib.sd_bus_start(talk->bus);
    return result >= 0 ? 0 : error_set(err, -first, "connect to systemd's bus");
}

static void __attribute__((noreturn))
talk_child(struct talk *talk, int (*converse)(struct talk *talk, struct error *err), int report_fd)
{
    struct error err = {0};
    sigset_t none;
    /* The caller may have blocked everything. */
    signal(SIGALRM, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    alarm(CHILD_TIMEOUT_S);
    if (talk_open(talk, &err) == 0 && converse(talk, &err) == 0)
        err = (struct error){0};
    if (talk->bus)
        talk->lib.sd_bus_flush_close_unref(talk->bus);
    _exit(fd_write_full(report_fd, &err, sizeof(err)) == 0 ? 0 : 1);
}

/* Runs a conversation in a child and takes its error over. 0, or -1 with err. */
static int talk_apart(struct talk *talk, int (*converse)(struct talk *talk, struct error *err),
                      struct error *err)
{
    int ends[2];
    struct error report;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, errno, "pipe");
    cleanup_fd int read_end = ends[0], write_end = ends[1];
    pid_t child = fork();
    if (child < 0)
        return error_set(err, errno, "fork");
    if (child == 0)
        talk_child(talk, converse, write_end);
    fd_close(&write_end);
    int got = fd_read_full(read_end, &report, sizeof(report));
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (got < 0)
        return error_set(err, ETIMEDOUT, "systemd");
    report.text[sizeof(report.text) - 1] = '\0';
    return report.code == 0 ? 0 : error_say(err, report.code, "%s", report.text);
}

/* --- Jobs ----------------------------------------------------------------------- */

static int on_job_removed(sd_bus_message *message, void *arg, sd_bus_error *unused)
{
    (void)unused;
    struct talk *talk = arg;
    const char *path, *unit, *result;
    uint32_t id;
    if (talk->lib.sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) >= 0 &&
        strcmp(path, talk->job) == 0)
        snprintf(talk->result, sizeof(talk->result), "%s", result);
    return 0;
}

static int watch_jobs(struct talk *talk, struct error *err)
{
    /* On a bus only systemd's own word counts; a direct connection has no senders. */
    const char *sender = talk->lib.sd_bus_is_bus_client(talk->bus) > 0 ? DESTINATION : NULL;
    int result = talk->lib.sd_bus_match_signal(talk->bus, NULL, sender, OBJECT, MANAGER, "JobRemoved",
                                               on_job_removed, talk);
    return result < 0 ? error_set(err, -result, "systemd: listen for JobRemoved") : 0;
}

/* Signals that come before a call's answer wait in sd-bus's queue, so none is lost between the two. */
static int wait_for_job(struct talk *talk, sd_bus_message *reply, struct error *err)
{
    const char *path = NULL;
    int64_t deadline = deadline_in(JOB_TIMEOUT_MS);
    int result = talk->lib.sd_bus_message_read(reply, "o", &path);
    if (result < 0)
        return error_set(err, -result, "systemd's answer");
    snprintf(talk->job, sizeof(talk->job), "%s", path);
    while (!*talk->result) {
        result = talk->lib.sd_bus_process(talk->bus, NULL);
        if (result < 0)
            return error_set(err, -result, "systemd's bus");
        int left = deadline_left_ms(deadline);
        if (result == 0 && left == 0)
            return error_set(err, ETIMEDOUT, "systemd: %s of %s", talk->job, talk->scope->unit);
        if (result == 0)
            talk->lib.sd_bus_wait(talk->bus, (uint64_t)left * 1000);
    }
    if (strcmp(talk->result, "done") != 0)
        return error_set(err, 0, "systemd: the job for %s ended with \"%s\"", talk->scope->unit,
                         talk->result);
    return 0;
}

/* Fills err from a failed call. -1. */
static int call_failed(struct talk *talk, const char *method, int result, sd_bus_error *error,
                       struct error *err)
{
    int code = -result;
    if (error->name && strcmp(error->name, DESTINATION ".UnitExists") == 0)
        code = EEXIST;
    if (error->name && strcmp(error->name, DESTINATION ".NoSuchUnit") == 0)
        code = ENOENT;
    error_say(err, code, "systemd: %s %s: %s", method, talk->scope->unit,
              error->message ? error->message : strerror(-result));
    talk->lib.sd_bus_error_free(error);
    return -1;
}

/* --- Properties ------------------------------------------------------------------- */

static int append_number(struct talk *talk, sd_bus_message *message, const char *name, int64_t value)
{
    return talk->lib.sd_bus_message_append(message, "(sv)", name, "t",
                                           value < 0 ? UINT64_MAX : (uint64_t)value);
}

/* A set of processors or memory nodes as systemd takes it: one bit each. */
static int append_set(struct talk *talk, sd_bus_message *message, const char *name, const char *list)
{
    uint8_t bits[NUMBERS_BYTES] = {0};
    size_t length = sizeof(bits);
    if (host_resources_count_list(list, bits, sizeof(bits) * 8) < 0)
        return -EINVAL;
    while (length > 1 && bits[length - 1] == 0)
        length--;
    const struct sd_bus_library *lib = &talk->lib;
    int result = lib->sd_bus_message_open_container(message, SD_BUS_TYPE_STRUCT, "sv");
    if (result >= 0)
        result = lib->sd_bus_message_append(message, "s", name);
    if (result >= 0)
        result = lib->sd_bus_message_open_container(message, SD_BUS_TYPE_VARIANT, "ay");
    if (result >= 0)
        result = lib->sd_bus_message_append_array(message, SD_BUS_TYPE_BYTE, bits, length);
    if (result >= 0)
        result = lib->sd_bus_message_close_container(message);
    if (result >= 0)
        result = lib->sd_bus_message_close_container(message);
    return result;
}

static int append_quota(struct talk *talk, sd_bus_message *message)
{
    const struct host_resources *limits = talk->limits;
    uint64_t period = limits->cpu_period ? limits->cpu_period : CPU_PERIOD_DEFAULT_US;
    int64_t per_second = -1;
    if (limits->cpu_quota > 0 && (uint64_t)limits->cpu_quota < UINT64_MAX / USEC_PER_SEC / 2) {
        uint64_t usec = (uint64_t)limits->cpu_quota * USEC_PER_SEC / period;
        per_second = (int64_t)((usec + QUOTA_STEP_USEC - 1) / QUOTA_STEP_USEC * QUOTA_STEP_USEC);
    }
    int result = append_number(talk, message, "CPUQuotaPerSecUSec", per_second);
    if (result >= 0 && period != CPU_PERIOD_DEFAULT_US)
        result = append_number(talk, message, "CPUQuotaPeriodUSec", (int64_t)period);
    return result;
}

/* The limits that systemd has properties for. */
static int append_limits(struct talk *talk, sd_bus_message *message)
{
    const struct host_resources *limits = talk->limits;
    bool version2 = talk->scope->version2;
    int result = 0;
    if (limits->memory_limit)
        result = append_number(talk, message, version2 ? "MemoryMax" : "MemoryLimit", limits->memory_limit);
    if (result >= 0 && version2 && limits->memory_swap)
        result = append_number(talk, message, "MemorySwapMax",
                               limits->memory_swap < 0 ? -1 : limits->memory_swap - limits->memory_limit);
    if (result >= 0 && version2 && limits->memory_reservation)
        result = append_number(talk, message, "MemoryLow", limits->memory_reservation);
    if (result >= 0 && limits->cpu_shares && limits->cpu_idle <= 0)
        result = version2 ? append_number(talk, message, "CPUWeight",
                                          (int64_t)cgroup_limits_cpu_weight(limits->cpu_shares))
                          : append_number(talk, message, "CPUShares", (int64_t)limits->cpu_shares);
    if (result >= 0 && (limits->cpu_quota || limits->cpu_period))
        result = append_quota(talk, message);
    if (result >= 0 && version2 && limits->cpus)
        result = append_set(talk, message, "AllowedCPUs", limits->cpus);
    if (result >= 0 && version2 && limits->mems)
        result = append_set(talk, message, "AllowedMemoryNodes", limits->mems);
    if (result >= 0 && limits->io_weight)
        result = version2 ? append_number(talk, message, "IOWeight",
                                          (int64_t)cgroup_limits_io_weight(limits->io_weight))
                          : append_number(talk, message, "BlockIOWeight", limits->io_weight);
    return result;
}

/* What makes the unit a scope of ours. No default dependencies: it is to outlive the session it was started
 * in, until the container's engine ends it. */
static int append_scope(struct talk *talk, sd_bus_message *message)
{
    static const char *const flags[] = {"Delegate", "MemoryAccounting", "CPUAccounting", "TasksAccounting"};
    const struct sd_bus_library *lib = &talk->lib;
    const struct systemd_scope *scope = talk->scope;
    int result = lib->sd_bus_message_append(message, "(sv)(sv)(sv)", "Description", "s", scope->description,
                                            "Slice", "s", scope->slice, "PIDs", "au", 1, (uint32_t)talk->pid);
    for (size_t i = 0; result >= 0 && i < sizeof(flags) / sizeof(flags[0]); i++)
        result = lib->sd_bus_message_append(message, "(sv)", flags[i], "b", 1);
    if (result >= 0)
        result = lib->sd_bus_message_append(message, "(sv)", "DefaultDependencies", "b", 0);
    if (result >= 0)
        result = lib->sd_bus_message_append(message, "(sv)",
                                            scope->version2 ? "IOAccounting" : "BlockIOAccounting", "b", 1);
    return result;
}

/* --- Conversations ---------------------------------------------------------------- */

static int start_unit(struct talk *talk, struct error *err)
{
    const struct sd_bus_library *lib = &talk->lib;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *message = NULL, *reply = NULL;
    int result = lib->sd_bus_message_new_method_call(talk->bus, &message, DESTINATION, OBJECT, MANAGER,
                                                     "StartTransientUnit");
    if (result >= 0)
        result = lib->sd_bus_message_append(message, "ss", talk->scope->unit, "fail");
    if (result >= 0)
        result = lib->sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "(sv)");
    if (result >= 0)
        result = append_scope(talk, message);
    if (result >= 0)
        result = append_limits(talk, message);
    if (result >= 0)
        result = lib->sd_bus_message_close_container(message);
    if (result >= 0)
        result = lib->sd_bus_message_append(message, "a(sa(sv))", 0);
    if (result >= 0)
        result = lib->sd_bus_call(talk->bus, message, 0, &error, &reply);
    result = result < 0 ? call_failed(talk, "StartTransientUnit", result, &error, err)
                        : wait_for_job(talk, reply, err);
    lib->sd_bus_message_unref(message);
    lib->sd_bus_message_unref(reply);
    return result;
}

/* A unit that has failed stays until somebody forgets it. */
static int forget_failed(struct talk *talk)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    int result = talk->lib.sd_bus_call_method(talk->bus, DESTINATION, OBJECT, MANAGER, "ResetFailedUnit",
                                              &error, NULL, "s", talk->scope->unit);
    talk->lib.sd_bus_error_free(&error);
    return result;
}

static int converse_start(struct talk *talk, struct error *err)
{
    if (watch_jobs(talk, err) < 0)
        return -1;
    if (start_unit(talk, err) == 0)
        return 0;
    return err->code == EEXIST && forget_failed(talk) >= 0 ? start_unit(talk, err) : -1;
}

static int converse_update(struct talk *talk, struct error *err)
{
    const struct sd_bus_library *lib = &talk->lib;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *message = NULL;
    int result = lib->sd_bus_message_new_method_call(talk->bus, &message, DESTINATION, OBJECT, MANAGER,
                                                     "SetUnitProperties");
    if (result >= 0)
        result = lib->sd_bus_message_append(message, "sb", talk->scope->unit, 1);
    if (result >= 0)
        result = lib->sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "(sv)");
    if (result >= 0)
        result = append_limits(talk, message);
    if (result >= 0)
        result = lib->sd_bus_message_close_container(message);
    if (result >= 0)
        result = lib->sd_bus_call(talk->bus, message, 0, &error, NULL);
    if (result < 0)
        call_failed(talk, "SetUnitProperties", result, &error, err);
    lib->sd_bus_message_unref(message);
    return result < 0 ? -1 : 0;
}

/* 1: a unit of that name is there and was made by us; 0: none is, or another's; -1 with err. */
static int unit_is_ours(struct talk *talk, struct error *err)
{
    const struct sd_bus_library *lib = &talk->lib;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    const char *path = NULL;
    char *description = NULL;
    int ours = 0;
    int result = lib->sd_bus_call_method(talk->bus, DESTINATION, OBJECT, MANAGER, "GetUnit", &error, &reply,
                                         "s", talk->scope->unit);
    if (result >= 0)
        result = lib->sd_bus_message_read(reply, "o", &path);
    if (result >= 0)
        result = lib->sd_bus_get_property_string(talk->bus, DESTINATION, path, UNIT, "Description", &error,
                                                 &description);
    if (result >= 0)
        ours = strcmp(description, talk->scope->description) == 0;
    else if (call_failed(talk, "GetUnit", result, &error, err) < 0 && err->code != ENOENT)
        ours = -1;
    free(description);
    lib->sd_bus_message_unref(reply);
    return ours;
}

static int converse_stop(struct talk *talk, struct error *err)
{
    const struct sd_bus_library *lib = &talk->lib;
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    int ours = unit_is_ours(talk, err);
    if (ours <= 0)
        return ours;
    if (watch_jobs(talk, err) < 0)
        return -1;
    int result = lib->sd_bus_call_method(talk->bus, DESTINATION, OBJECT, MANAGER, "StopUnit", &error, &reply,
                                         "ss", talk->scope->unit, "replace");
    if (result >= 0)
        result = wait_for_job(talk, reply, err);
    else if (call_failed(talk, "StopUnit", result, &error, err) < 0 && err->code == ENOENT)
        result = 0; /* it ended by itself meanwhile: its last process is gone */
    lib->sd_bus_message_unref(reply);
    forget_failed(talk);
    return result < 0 ? -1 : 0;
}

int systemd_scope_start(const struct systemd_scope *scope, pid_t pid, const struct host_resources *limits,
                        struct error *err)
{
    struct talk talk = {.scope = scope, .limits = limits, .pid = pid};
    return talk_apart(&talk, converse_start, err);
}

int systemd_scope_update(const struct systemd_scope *scope, const struct host_resources *limits,
                         struct error *err)
{
    struct talk talk = {.scope = scope, .limits = limits};
    return talk_apart(&talk, converse_update, err);
}

int systemd_scope_stop(const struct systemd_scope *scope, struct error *err)
{
    struct talk talk = {.scope = scope};
    return talk_apart(&talk, converse_stop, err);
}
