/* The client of the VMM's control socket: see vmm_control.h. Called by commands and monitors. */
#include "shim/vmm_control.h"

#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG          8
#define ANSWER_BYTES_MAX (128u << 10)
#define FDS_MAX          (2 * VMM_NET_QUEUES_MAX)

/* By the open directory: sun_path holds 108 bytes, and --root may be longer. */
static struct sockaddr_un socket_address(int sandbox_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" VMM_CONTROL_SOCKET, sandbox_fd);
    return address;
}

int vmm_control_listen(int sandbox_fd, struct error *err)
{
    struct sockaddr_un address = socket_address(sandbox_fd);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_set(err, errno, "socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, BACKLOG) < 0)
        return error_set(err, errno, VMM_CONTROL_SOCKET);
    return take_fd(&fd);
}

/* One message with its descriptors. 0, or -1 with err filled. */
static int send_request(int fd, const char *text, const int *fds, size_t fd_count, struct error *err)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } ancillary = {.room = {0}};
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > FDS_MAX)
        return error_set(err, EINVAL, "VMM control: %zu descriptors", fd_count);
    if (fd_count > 0) {
        message.msg_control = &ancillary;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(head), fds, fd_count * sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? error_set(err, errno, "VMM control: send") : 0;
}

/* The answer's object, a new reference, or NULL with err filled. */
static json_t *receive_answer(int fd, int timeout_ms, struct error *err)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ready;
    do {
        ready = poll(&wait, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0) {
        error_set(err, ready == 0 ? ETIMEDOUT : errno, "VMM control: answer");
        return NULL;
    }
    cleanup_free char *text = malloc(ANSWER_BYTES_MAX);
    ssize_t got = text ? recv(fd, text, ANSWER_BYTES_MAX, MSG_TRUNC) : -1;
    if (got <= 0 || got > (ssize_t)ANSWER_BYTES_MAX) {
        error_set(err, got == 0 ? ECONNRESET : got < 0 ? errno : EMSGSIZE, "VMM control: answer");
        return NULL;
    }
    json_t *answer = json_parse_object(text, (size_t)got, err);
    if (!answer)
        error_wrap(err, "VMM control: answer");
    return answer;
}

/* What the answer says: 0 with *result, or -1 with the VMM's error. */
static int take_answer(json_t *answer, json_t **result, struct error *err)
{
    json_t *failure = NULL, *got = NULL;
    int64_t code = 0;
    const char *text = "";
    if (json_get_object(answer, "answer", "error", &failure, err) < 0)
        return -1;
    if (failure) {
        if (json_get_int(failure, "answer.error", "code", 0, INT32_MAX, &code, err) < 0 ||
            json_get_string(failure, "answer.error", "text", &text, err) < 0)
            return -1;
        return error_say(err, (int)code, "VMM: %s", text);
    }
    int rc = json_get_object(answer, "answer", "result", &got, err);
    if (json_require(rc, "answer", "result", err) < 0)
        return -1;
    if (result)
        *result = json_incref(got);
    return 0;
}

int vmm_control_call(int sandbox_fd, const char *method, json_t *params, const int *fds, size_t fd_count,
                     int timeout_ms, json_t **result, struct error *err)
{
    struct sockaddr_un address = socket_address(sandbox_fd);
    cleanup_json json_t *request = json_pack("{s:s, s:O*}", "method", method, "params", params);
    cleanup_free char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    if (!text)
        return error_set(err, ENOMEM, "VMM control: %s", method);
    cleanup_fd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "VMM control: connect");
    if (send_request(fd, text, fds, fd_count, err) < 0)
        return -1;
    cleanup_json json_t *answer = receive_answer(fd, timeout_ms, err);
    return answer ? take_answer(answer, result, err) : -1;
}

/* The member "device" of an answer. */
static int take_device(const json_t *result, char device[VMM_DEVICE_NAME_BYTES], struct error *err)
{
    const char *name;
    if (json_require(json_get_string(result, "result", "device", &name, err), "result", "device", err) < 0)
        return -1;
    size_t length = strlen(name);
    if (length >= VMM_DEVICE_NAME_BYTES || strchr(name, '/'))
        return error_set(err, EPROTO, "VMM control: device");
    memcpy(device, name, length + 1);
    return 0;
}

int vmm_control_attach_net(int sandbox_fd, const struct vmm_net *net, char device[VMM_DEVICE_NAME_BYTES],
                           struct error *err)
{
    int fds[2 * VMM_NET_QUEUES_MAX];
    char mac[3 * ETH_ALEN];
    size_t count = net->queues;
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", net->mac[0], net->mac[1], net->mac[2],
             net->mac[3], net->mac[4], net->mac[5]);
    memcpy(fds, net->tap, count * sizeof(int));
    if (net->vhost) {
        memcpy(fds + count, net->vhost_net, count * sizeof(int));
        count *= 2;
    }
    cleanup_json json_t *params =
        json_pack("{s:I, s:s, s:i, s:i, s:b}", "id", (json_int_t)net->id, "mac", mac, "mtu", (int)net->mtu,
                  "queues", (int)net->queues, "vhost", net->vhost);
    cleanup_json json_t *result = NULL;
    if (vmm_control_call(sandbox_fd, "net.attach", params, fds, count, VMM_CONTROL_TIMEOUT_MS, &result, err) <
        0)
        return -1;
    return take_device(result, device, err);
}

int vmm_control_find_net(int sandbox_fd, uint32_t id, char device[VMM_DEVICE_NAME_BYTES], struct error *err)
{
    cleanup_json json_t *params = json_pack("{s:I}", "id", (json_int_t)id);
    cleanup_json json_t *result = NULL;
    if (vmm_control_call(sandbox_fd, "net.find", params, NULL, 0, VMM_CONTROL_TIMEOUT_MS, &result, err) < 0)
        return -1;
    return take_device(result, device, err);
}

int vmm_control_detach_net(int sandbox_fd, uint32_t id, bool force, struct error *err)
{
    cleanup_json json_t *params = json_pack("{s:I, s:b}", "id", (json_int_t)id, "force", force);
    return vmm_control_call(sandbox_fd, "net.detach", params, NULL, 0, VMM_CONTROL_TIMEOUT_MS, NULL, err);
}
