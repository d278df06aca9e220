/*
 * The VMM's control socket and the shim's client of it, end to end over a real socket; and what --net and
 * net.attach accept.
 */
#include "common/fd.h"
#include "common/json.h"
#include "common/loop.h"
#include "shim/vmm_control.h"
#include "vmm/control.h"
#include "vmm/net_option.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
    char directory[32];
    int directory_fd;
    struct loop *loop;
    struct control *control;
    pthread_t thread;
    struct control_request *waiting; /* of the method "later" */
    size_t descriptors;              /* of the last "take" */
};

static int echo(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    (void)arg;
    (void)err;
    *result = json_pack("{s:O, s:i}", "params", request->params, "fds", (int)request->fd_count);
    return 0;
}

static int refuse(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    (void)arg;
    (void)request;
    (void)result;
    return error_set(err, ENOSPC, "no more of it");
}

/* Takes the first descriptor and writes to it. */
static int take(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct fixture *f = arg;
    uint64_t one = 1;
    (void)result;
    f->descriptors = request->fd_count;
    cleanup_fd int fd = take_fd(&request->fds[0]);
    if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) || write(fd, &one, sizeof(one)) != sizeof(one))
        return error_set(err, EBADF, "take");
    return 0;
}

static int later(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct fixture *f = arg;
    (void)result;
    (void)err;
    f->waiting = request;
    return CONTROL_LATER;
}

/* Answers what "later" left open. */
static int now(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    struct fixture *f = arg;
    (void)request;
    (void)result;
    if (!f->waiting)
        return error_set(err, EAGAIN, "nobody waits");
    control_answer(f->waiting, json_pack("{s:s}", "it", "came"));
    f->waiting = NULL;
    return 0;
}

static int huge(void *arg, struct control_request *request, json_t **result, struct error *err)
{
    (void)arg;
    (void)request;
    cleanup_free char *text = malloc(CONTROL_ANSWER_BYTES_MAX + 1);
    if (!text)
        return error_set(err, ENOMEM, "huge");
    memset(text, 'x', CONTROL_ANSWER_BYTES_MAX);
    text[CONTROL_ANSWER_BYTES_MAX] = '\0';
    *result = json_pack("{s:s}", "text", text);
    return 0;
}

static const struct control_method methods[] = {{"echo", echo},   {"refuse", refuse}, {"take", take},
                                                {"later", later}, {"now", now},       {"huge", huge}};

static void *run_loop(void *arg)
{
    loop_run(((struct fixture *)arg)->loop);
    return NULL;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err;
    if (!f)
        return -1;
    *state = f;
    strcpy(f->directory, "/tmp/husk-control.XXXXXX");
    if (!mkdtemp(f->directory))
        return -1;
    f->directory_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->loop = loop_new();
    int listener = vmm_control_listen(f->directory_fd, &err);
    if (listener < 0)
        return -1;
    f->control = control_new(f->loop, listener, methods, sizeof(methods) / sizeof(methods[0]), f);
    return f->control ? pthread_create(&f->thread, NULL, run_loop, f) : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    loop_stop(f->loop);
    pthread_join(f->thread, NULL);
    if (f->waiting)
        control_answer(f->waiting, NULL);
    control_free(f->control);
    loop_free(f->loop);
    unlinkat(f->directory_fd, VMM_CONTROL_SOCKET, 0);
    rmdir(f->directory);
    close(f->directory_fd);
    free(f);
    return 0;
}

static void request_is_answered(void **state)
{
    struct fixture *f = *state;
    struct error err;
    cleanup_json json_t *params = json_pack("{s:i}", "number", 7), *result = NULL;
    if (vmm_control_call(f->directory_fd, "echo", params, NULL, 0, 5000, &result, &err) < 0)
        fail_msg("%s", err.text);
    int64_t number = 0;
    assert_int_equal(json_get_int(json_object_get(result, "params"), "", "number", 0, 10, &number, &err), 1);
    assert_int_equal(number, 7);
}

static void failure_comes_back_with_its_errno(void **state)
{
    struct fixture *f = *state;
    struct error err;
    assert_int_equal(vmm_control_call(f->directory_fd, "refuse", NULL, NULL, 0, 5000, NULL, &err), -1);
    assert_int_equal(err.code, ENOSPC);
    assert_string_equal(err.text, "VMM: no more of it: No space left on device");
    assert_int_equal(vmm_control_call(f->directory_fd, "nonsense", NULL, NULL, 0, 5000, NULL, &err), -1);
    assert_int_equal(err.code, ENOSYS);
    assert_non_null(strstr(err.text, "nonsense"));
}

static void descriptors_travel(void **state)
{
    struct fixture *f = *state;
    struct error err;
    uint64_t count = 0;
    cleanup_fd int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fds[CONTROL_FDS_MAX];
    for (unsigned i = 0; i < CONTROL_FDS_MAX; i++)
        fds[i] = fd;
    if (vmm_control_call(f->directory_fd, "take", NULL, fds, CONTROL_FDS_MAX, 5000, NULL, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(f->descriptors, CONTROL_FDS_MAX);
    assert_int_equal(read(fd, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 1);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void descriptors_that_nobody_takes_are_closed(void **state)
{
    struct fixture *f = *state;
    struct error err;
    int fds[3] = {f->directory_fd, f->directory_fd, f->directory_fd};
    unsigned before = open_descriptors();
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(vmm_control_call(f->directory_fd, "refuse", NULL, fds, 3, 5000, NULL, &err), -1);
        assert_int_equal(vmm_control_call(f->directory_fd, "nonsense", NULL, fds, 3, 5000, NULL, &err), -1);
    }
    /* The server's end of the last connections may not be closed yet: another one waits for that. */
    for (unsigned i = 0; i < 100 && open_descriptors() > before; i++)
        vmm_control_call(f->directory_fd, "echo", NULL, NULL, 0, 5000, NULL, &err);
    assert_true(open_descriptors() <= before + 1);
}

static int connect_raw(struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/" VMM_CONTROL_SOCKET, f->directory);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void answer_may_come_later(void **state)
{
    struct fixture *f = *state;
    struct error err;
    char text[64] = "";
    cleanup_fd int fd = connect_raw(f);
    assert_true(send(fd, "{\"method\":\"later\"}", 18, 0) == 18);
    while (vmm_control_call(f->directory_fd, "now", NULL, NULL, 0, 5000, NULL, &err) < 0)
        assert_int_equal(err.code, EAGAIN);
    assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
    assert_string_equal(text, "{\"result\":{\"it\":\"came\"}}");
}

static void caller_who_hangs_up_is_not_answered(void **state)
{
    struct fixture *f = *state;
    struct error err;
    int fd = connect_raw(f);
    assert_true(send(fd, "{\"method\":\"later\"}", 18, 0) == 18);
    usleep(20000);
    close(fd);
    while (vmm_control_call(f->directory_fd, "now", NULL, NULL, 0, 5000, NULL, &err) < 0)
        assert_int_equal(err.code, EAGAIN);
    assert_int_equal(vmm_control_call(f->directory_fd, "echo", NULL, NULL, 0, 5000, NULL, &err), 0);
}

static void second_request_before_the_answer_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    char text[64];
    cleanup_fd int fd = connect_raw(f);
    assert_true(send(fd, "{\"method\":\"later\"}", 18, 0) == 18);
    assert_true(send(fd, "{\"method\":\"echo\"}", 17, 0) == 17);
    assert_int_equal(recv(fd, text, sizeof(text), 0), 0);
}

static void broken_requests_are_told_so(void **state)
{
    struct fixture *f = *state;
    static const char *const requests[] = {"{", "[]", "{}", "{\"method\":1}",
                                           "{\"method\":\"echo\",\"params\":1}"};
    for (unsigned i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        char text[512] = "";
        cleanup_fd int fd = connect_raw(f);
        assert_true(send(fd, requests[i], strlen(requests[i]), 0) > 0);
        assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
        assert_ptr_equal(strstr(text, "{\"error\":"), text);
    }
}

static void message_too_long_ends_the_connection(void **state)
{
    struct fixture *f = *state;
    struct error err;
    static char text[CONTROL_REQUEST_BYTES_MAX + 1];
    memset(text, ' ', sizeof(text));
    cleanup_fd int fd = connect_raw(f);
    assert_true(send(fd, text, sizeof(text), 0) == sizeof(text));
    assert_int_equal(recv(fd, text, sizeof(text), 0), 0);
    assert_int_equal(vmm_control_call(f->directory_fd, "huge", NULL, NULL, 0, 5000, NULL, &err), -1);
    assert_int_equal(err.code, ECONNRESET);
    assert_int_equal(vmm_control_call(f->directory_fd, "echo", NULL, NULL, 0, 5000, NULL, &err), 0);
}

static void connections_are_limited(void **state)
{
    struct fixture *f = *state;
    struct error err;
    int fds[CONTROL_CONNECTIONS_MAX];
    char byte;
    for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        fds[i] = connect_raw(f);
    cleanup_fd int refused = connect_raw(f);
    assert_true(recv(refused, &byte, 1, 0) <= 0);
    for (unsigned i = 0; i < CONTROL_CONNECTIONS_MAX; i++)
        close(fds[i]);
    int rc = -1;
    for (unsigned i = 0; i < 100 && rc < 0; i++) {
        rc = vmm_control_call(f->directory_fd, "echo", NULL, NULL, 0, 5000, NULL, &err);
        usleep(10000);
    }
    assert_int_equal(rc, 0);
}

static void silence_is_not_waited_for_beyond_the_limit(void **state)
{
    struct fixture *f = *state;
    struct error err;
    assert_int_equal(vmm_control_call(f->directory_fd, "later", NULL, NULL, 0, 50, NULL, &err), -1);
    assert_int_equal(err.code, ETIMEDOUT);
}

static void net_options_are_parsed(void **state)
{
    struct virtio_net_options options;
    (void)state;
    assert_int_equal(net_option_parse("id=3,mac=02:00:00:00:00:0a,taps=7:8,vhosts=9:10,mtu=9000", &options),
                     0);
    assert_int_equal(options.id, 3);
    assert_int_equal(options.pairs, 2);
    assert_int_equal(options.tap_fd[1], 8);
    assert_int_equal(options.tap_fd[2], -1);
    assert_int_equal(options.vhost_fd[0], 9);
    assert_int_equal(options.mtu, 9000);
    assert_int_equal(options.mac[5], 10);
}

static void nonsense_in_net_options_is_refused(void **state)
{
    static const char thirty_three[] =
        "id=1,mac=02:00:00:00:00:01,taps=1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16:"
        "17:18:19:20:21:22:23:24:25:26:27:28:29:30:31:32:33";
    static const char *const values[] = {
        "",
        "id=1",
        "id=1,taps=3",
        "taps=3,mac=02:00:00:00:00:01",
        "id=1,taps=3,mac=02:00:00:00:00:01,",
        "id=1,taps=,mac=02:00:00:00:00:01",
        "id=1,taps=3:,mac=02:00:00:00:00:01",
        "id=1,taps=3:-1,mac=02:00:00:00:00:01",
        "id=1,taps=3:4,vhosts=5,mac=02:00:00:00:00:01",
        "id=1,taps=3,mac=03:00:00:00:00:01",
        "id=1,taps=3,mac=00:00:00:00:00:00",
        "id=1,taps=3,mac=02:00:00:00:00:1",
        "id=1,taps=3,mac=02:00:00:00:00:01:02",
        "id=1,taps=3,mac=02:00:00:00:00:0x",
        "id=1,taps=3,mac=02:00:00:00:00:01,mtu=67",
        "id=1,taps=3,mac=02:00:00:00:00:01,mtu=65536",
        "id=1,taps=3,mac=02:00:00:00:00:01,colour=red",
        "id=x,taps=3,mac=02:00:00:00:00:01",
        thirty_three,
    };
    struct virtio_net_options options;
    (void)state;
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (net_option_parse(values[i], &options) != -EINVAL)
            fail_msg("accepted: %s", values[i]);
    }
}

#define control_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    log_init("test", -1, LOG_FORMAT_TEXT, LOG_LEVEL_ERR);
    const struct CMUnitTest tests[] = {
        control_test(request_is_answered),
        control_test(failure_comes_back_with_its_errno),
        control_test(descriptors_travel),
        control_test(descriptors_that_nobody_takes_are_closed),
        control_test(answer_may_come_later),
        control_test(caller_who_hangs_up_is_not_answered),
        control_test(second_request_before_the_answer_ends_the_connection),
        control_test(broken_requests_are_told_so),
        control_test(message_too_long_ends_the_connection),
        control_test(connections_are_limited),
        control_test(silence_is_not_waited_for_beyond_the_limit),
        cmocka_unit_test(net_options_are_parsed),
        cmocka_unit_test(nonsense_in_net_options_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
