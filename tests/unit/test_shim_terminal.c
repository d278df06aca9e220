/* Unit tests of shim/terminal.c and shim/notify.c: what crosses to callers and service managers. */
#include "common/fd.h"
#include "shim/notify.h"
#include "shim/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int receive_fd(int socket_fd, char *name, size_t size)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec data = {name, size - 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    int fd = -1;
    ssize_t got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    assert_true(got > 0);
    name[got] = '\0';
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    assert_non_null(cmsg);
    assert_int_equal(cmsg->cmsg_type, SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(cmsg), sizeof(int));
    return fd;
}

/* A child without a controlling terminal makes one, and says how its bytes look. */
static void terminal_child(int socket_fd)
{
    struct error err;
    char text[16] = "";
    const struct winsize size = {.ws_row = 11, .ws_col = 22};
    setsid();
    signal(SIGHUP, SIG_IGN);
    int slave = terminal_make(socket_fd, &size, &err);
    if (slave < 0 || read(slave, text, sizeof(text)) != 3 || memcmp(text, "\x03\r\x04", 3) != 0)
        _exit(1);
    if (write(slave, "a\n", 2) != 2)
        _exit(2);
    /* The master's end: no more bytes, and no more writing. */
    if (read(slave, text, sizeof(text)) > 0 || write(slave, "b", 1) >= 0)
        _exit(3);
    _exit(open("/dev/tty", O_RDWR) < 0 ? 42 : 4); /* hung up: it is not the controlling one any more */
}

static void a_master_is_sent_with_its_name_and_is_raw(void **state)
{
    (void)state;
    int pair[2], status;
    char name[64], text[16] = "";
    struct winsize size;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid_t child = fork();
    if (child == 0)
        terminal_child(pair[1]);
    cleanup_fd int master = receive_fd(pair[0], name, sizeof(name));
    assert_int_equal(strncmp(name, "/dev/pts/", 9), 0);
    assert_int_equal(ioctl(master, TIOCGWINSZ, &size), 0);
    assert_int_equal(size.ws_row * 100 + size.ws_col, 1122);
    assert_int_equal(write(master, "\x03\r\x04", 3), 3);
    assert_int_equal(read(master, text, sizeof(text)), 2);
    assert_string_equal(text, "a\n");
    fd_close(&master);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    close(pair[0]);
    close(pair[1]);
}

static void options_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(terminal_check_options(false, false, NULL, &err), 0);
    assert_int_equal(terminal_check_options(true, false, NULL, &err), 0);
    assert_int_equal(terminal_check_options(true, true, "s", &err), 0);
    assert_int_equal(terminal_check_options(true, true, NULL, &err), -1);
    assert_int_equal(terminal_check_options(true, false, "s", &err), -1);
    assert_int_equal(terminal_check_options(false, true, "s", &err), -1);
}

static bool is_raw(int fd)
{
    struct termios mode;
    assert_int_equal(tcgetattr(fd, &mode), 0);
    return !(mode.c_lflag & (ICANON | ECHO | ISIG)) && !(mode.c_oflag & OPOST);
}

static void a_raw_terminal_is_set_back(void **state)
{
    (void)state;
    struct error err;
    struct terminal_raw raw;
    int unlock = 0, status;
    cleanup_fd int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_int_equal(ioctl(master, TIOCSPTLCK, &unlock), 0);
    cleanup_fd int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_int_equal(terminal_raw_enter(&raw, slave, &err), 0);
    assert_true(is_raw(slave));
    terminal_raw_leave(&raw);
    assert_false(is_raw(slave));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* the guard is gone */

    /* Killed, it can't do it itself. */
    pid_t child = fork();
    if (child == 0) {
        if (terminal_raw_enter(&raw, slave, &err) < 0)
            _exit(1);
        raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    for (int i = 0; i < 500 && is_raw(slave); i++)
        usleep(10000);
    assert_false(is_raw(slave));
}

static void expect_rewritten(const char *message, const char *expected)
{
    char text[64];
    size_t length = notify_rewrite(message, 77, text, sizeof(text));
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
}

static void notifications_tell_of_the_monitor(void **state)
{
    (void)state;
    expect_rewritten("READY=1", "READY=1\nMAINPID=77\n");
    expect_rewritten("MAINPID=5\nSTATUS=up\n", "STATUS=up\nMAINPID=77\n");
    expect_rewritten("STATUS=READY=1\n\nWATCHDOG=1", "STATUS=READY=1\nWATCHDOG=1\n");
    expect_rewritten("FDSTORE=1\nFDNAME=x\nFDSTOREREMOVE=1\nBARRIER=1", "");
    expect_rewritten("", "");
    /* What is too long is left out as a line, never cut. */
    expect_rewritten("STATUS=0123456789012345678901234567890123456789012345678901234567890123456789\nA=1",
                     "A=1\n");
}

static void a_notification_reaches_its_socket(void **state)
{
    (void)state;
    struct error err;
    char text[16] = "";
    static const char name[] = "husk-test-notify";
    struct sockaddr_un {
        sa_family_t family;
        char path[108];
    } address = {.family = AF_UNIX};
    memcpy(address.path + 1, name, sizeof(name) - 1);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t) + sizeof(name)), 0);
    assert_int_equal(notify_send("@husk-test-notify", "READY=1", 7, &err), 0);
    assert_int_equal(recv(fd, text, sizeof(text), MSG_DONTWAIT), 7);
    assert_string_equal(text, "READY=1");
    assert_int_equal(notify_send("/nowhere/at/all", "x", 1, &err), -1);
}

static void the_environment_gets_the_socket_and_the_callers_object_does_not(void **state)
{
    (void)state;
    struct error err;
    json_t *spec = json_loads("{\"process\": {\"env\": [\"A=1\"]}}", 0, NULL);
    json_t *changed = notify_add_to_spec(spec, "c1", &err);
    json_t *env = json_object_get(json_object_get(changed, "process"), "env");
    assert_int_equal(json_array_size(env), 2);
    assert_string_equal(json_string_value(json_array_get(env, 1)), "NOTIFY_SOCKET=@husk/notify/c1");
    assert_int_equal(json_array_size(json_object_get(json_object_get(spec, "process"), "env")), 1);
    json_decref(changed);
    json_decref(spec);
    spec = json_object();
    assert_null(notify_add_to_spec(spec, "c1", &err));
    json_decref(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_master_is_sent_with_its_name_and_is_raw),
        cmocka_unit_test(options_that_do_not_fit_are_refused),
        cmocka_unit_test(a_raw_terminal_is_set_back),
        cmocka_unit_test(notifications_tell_of_the_monitor),
        cmocka_unit_test(a_notification_reaches_its_socket),
        cmocka_unit_test(the_environment_gets_the_socket_and_the_callers_object_does_not),
    };
    return cmocka_run_group_tests_name("shim_terminal", tests, NULL, NULL);
}
