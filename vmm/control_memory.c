/*
 * Methods about memory and vCPUs: see control_memory.h and control_methods.h.
 *
 * The guest gets to a new size in its own time, so a request waits: until the size is reached, or for as long
 * as it said. One waits at a time; a later one ends it with what there is.
 */
#include "vmm/control_memory.h"

#include "common/fd.h"
#include "common/json.h"
#include "common/loop.h"
#include "vmm/control_methods.h"
#include "vmm/machine.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define MIB                (1ull << 20)
#define BALLOON_PAGE       (1ull << VIRTIO_BALLOON_PFN_SHIFT)
#define TIMEOUT_MS_DEFAULT 5000
#define TIMEOUT_MS_MAX     120000
/* The guest's driver answers within its next turn, if it is alive. */
#define STATISTICS_TIMEOUT_MS 1000

/* A request that waits for something, but not longer than its timer. */
struct waiting {
    struct memory_control *control;
    struct control_request *request; /* NULL: none */
    struct watch timer;
    json_t *(*answer)(struct memory_control *control);
};

struct memory_control {
    struct loop *loop;
    struct machine *machine;
    struct virtio_device *mem, *balloon;
    struct waiting resize, info;
};

static uint64_t boot_bytes(const struct memory_control *control)
{
    return machine_get_memory(control->machine)->bytes;
}

static uint64_t plugged_bytes(const struct memory_control *control)
{
    return control->mem ? virtio_mem_get_plugged(control->mem) : 0;
}

/* Timeout 0 disarms. */
static void timer_set(struct waiting *waiting, int64_t timeout_ms)
{
    struct itimerspec at = {
        .it_value = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000}};
    timerfd_settime(waiting->timer.fd, 0, &at, NULL); /* fails for no valid time */
}

static void waiting_end(struct waiting *waiting)
{
    struct control_request *request = take_ptr(&waiting->request);
    timer_set(waiting, 0);
    if (request)
        control_answer(request, waiting->answer(waiting->control));
}

static int waiting_begin(struct waiting *waiting, struct control_request *request, int64_t timeout_ms)
{
    waiting_end(waiting);
    waiting->request = request;
    timer_set(waiting, timeout_ms);
    return CONTROL_LATER;
}

static void on_timer(struct watch *watch, uint32_t events)
{
    (void)events;
    waiting_end(watch->arg);
}

static json_t *resize_answer(struct memory_control *control)
{
    return json_pack("{s:I}", "mib", (json_int_t)((boot_bytes(control) + plugged_bytes(control)) / MIB));
}

static void on_plugged(void *arg)
{
    struct memory_control *control = arg;
    if (virtio_mem_get_plugged(control->mem) == virtio_mem_get_requested(control->mem))
        waiting_end(&control->resize);
}

static json_t *statistics_json(const struct virtio_balloon_statistics *statistics)
{
    static const char *const names[] = VIRTIO_BALLOON_S_NAMES;
    json_t *object = json_object();
    for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++) {
        if (statistics->present >> i & 1)
            json_object_set_new(object, names[i], json_integer((json_int_t)statistics->value[i]));
    }
    return object;
}

static json_t *info_answer(struct memory_control *control)
{
    const struct memory *memory = machine_get_memory(control->machine);
    uint64_t requested = control->mem ? virtio_mem_get_requested(control->mem) : 0;
    json_t *answer = json_pack("{s:I, s:I, s:I, s:I}", "boot_mib", (json_int_t)(memory->bytes / MIB),
                               "max_mib", (json_int_t)((memory->bytes + memory->pluggable_max) / MIB),
                               "requested_mib", (json_int_t)((memory->bytes + requested) / MIB), "mib",
                               (json_int_t)((memory->bytes + plugged_bytes(control)) / MIB));
    if (!answer || !control->balloon)
        return answer;
    uint64_t held = virtio_balloon_get_actual(control->balloon) * BALLOON_PAGE;
    json_object_set_new(answer, "balloon_mib", json_integer((json_int_t)(held / MIB)));
    json_object_set_new(answer, "returned_bytes",
                        json_integer((json_int_t)virtio_balloon_get_returned_bytes(control->balloon)));
    json_object_set_new(answer, "statistics",
                        statistics_json(virtio_balloon_get_statistics(control->balloon)));
    return answer;
}

static void on_statistics(void *arg)
{
    struct memory_control *control = arg;
    waiting_end(&control->info);
}

static int get_mib(const struct control_request *request, uint64_t *mib, struct error *err)
{
    return json_require(json_get_u64(request->params, "params", "mib", UINT64_MAX / MIB, mib, err), "params",
                        "mib", err);
}

int control_memory_resize(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct memory_control *control = ((struct control_target *)arg)->memory;
    uint64_t mib, boot_mib = boot_bytes(control) / MIB;
    int64_t timeout_ms = TIMEOUT_MS_DEFAULT;
    if (get_mib(request, &mib, err) < 0 ||
        json_get_int(request->params, "params", "timeout_ms", 1, TIMEOUT_MS_MAX, &timeout_ms, err) < 0)
        return -1;
    uint64_t more = mib > boot_mib ? mib - boot_mib : 0; /* what it began with stays */
    if (!control->mem && more > 0)
        return error_set(err, ENOTSUP, "memory.resize: the VM was built for no more than %llu MiB",
                         (unsigned long long)boot_mib);
    int rc = control->mem ? virtio_mem_request(control->mem, more * MIB) : 0;
    if (rc < 0)
        return error_set(err, -rc, "memory.resize: %llu MiB", (unsigned long long)mib);
    if (control->mem && virtio_mem_get_plugged(control->mem) != virtio_mem_get_requested(control->mem))
        return waiting_begin(&control->resize, request, timeout_ms);
    *result = resize_answer(control);
    return 0;
}

int control_memory_info(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct memory_control *control = ((struct control_target *)arg)->memory;
    (void)err;
    if (control->balloon &&
        virtio_balloon_request_statistics(control->balloon, on_statistics, control) != -ENODEV)
        return waiting_begin(&control->info, request, STATISTICS_TIMEOUT_MS);
    *result = info_answer(control);
    return 0;
}

int control_memory_balloon(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct memory_control *control = ((struct control_target *)arg)->memory;
    uint64_t mib;
    (void)result;
    if (get_mib(request, &mib, err) < 0)
        return -1;
    if (!control->balloon)
        return error_set(err, ENOTSUP, "memory.balloon: the VM has none");
    uint64_t all = boot_bytes(control) + plugged_bytes(control);
    if (mib > all / MIB)
        return error_set(err, ERANGE, "memory.balloon: %llu MiB of %llu", (unsigned long long)mib,
                         (unsigned long long)(all / MIB));
    virtio_balloon_set_target(control->balloon, (uint32_t)(mib * MIB / BALLOON_PAGE));
    return 0;
}

int control_cpus_resize(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct memory_control *control = ((struct control_target *)arg)->memory;
    int64_t cpus = 0;
    int got = json_get_int(request->params, "params", "cpus", 1, INT32_MAX, &cpus, err);
    if (json_require(got, "params", "cpus", err) < 0 ||
        machine_set_cpus(control->machine, (unsigned)cpus, err) < 0)
        return -1;
    *result = json_pack("{s:i}", "cpus", (int)machine_get_cpus(control->machine));
    return 0;
}

static int waiting_init(struct memory_control *control, struct waiting *waiting,
                        json_t *(*answer)(struct memory_control *control))
{
    *waiting = (struct waiting){.control = control,
                                .timer = {.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
                                          .fn = on_timer,
                                          .arg = waiting},
                                .answer = answer};
    return waiting->timer.fd < 0 ? -errno : loop_add(control->loop, &waiting->timer, EPOLLIN);
}

struct memory_control *memory_control_new(struct loop *loop, struct machine *machine,
                                          struct virtio_device *mem, struct virtio_device *balloon)
{
    struct memory_control *control = calloc(1, sizeof(*control));
    if (!control)
        return NULL;
    *control = (struct memory_control){.loop = loop,
                                       .machine = machine,
                                       .mem = mem,
                                       .balloon = balloon,
                                       .resize.timer.fd = -1,
                                       .info.timer.fd = -1};
    int rc = waiting_init(control, &control->resize, resize_answer);
    if (rc == 0)
        rc = waiting_init(control, &control->info, info_answer);
    if (rc < 0) {
        memory_control_free(control);
        errno = -rc;
        return NULL;
    }
    if (mem)
        virtio_mem_on_change(mem, on_plugged, control);
    return control;
}

void memory_control_free(struct memory_control *control)
{
    if (!control)
        return;
    if (control->mem)
        virtio_mem_on_change(control->mem, NULL, NULL);
    loop_del(control->loop, &control->resize.timer);
    loop_del(control->loop, &control->info.timer);
    fd_close(&control->resize.timer.fd);
    fd_close(&control->info.timer.fd);
    free(control);
}
