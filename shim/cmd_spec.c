/*
 * husk spec: writes a config.json to start from (shim/spec_default.h). An existing file is never replaced.
 */
#include "common/fd.h"
#include "common/json.h"
#include "shim/command.h"
#include "shim/spec_default.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define SPEC_FILE "config.json"

struct spec_options {
    const char *bundle;
    const char *file; /* crun's */
    bool rootless;
};

static const struct option_row option_rows[] = {
    {"bundle", 'b', "DIR", "where to write it (default: the current directory)", option_set_string,
     offsetof(struct spec_options, bundle)},
    {"file", 'f', "FILE", "the file's name (default: " SPEC_FILE ")", option_set_string,
     offsetof(struct spec_options, file)},
    {"rootless", 0, NULL, "for a container that is not created by root", option_set_flag,
     offsetof(struct spec_options, rootless)},
    {0}};

/* In one step: what is there already stays, and no half is ever seen. */
static int spec_write(const char *dir, const char *name, const char *text, struct error *err)
{
    cleanup_fd int dir_fd = open(dir, O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return error_set(err, errno, "open %s", dir);
    cleanup_fd int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST)
        return error_set(err, 0, "File %s exists. Remove it first", name);
    if (fd < 0)
        return error_set(err, errno, "make %s/%s", dir, name);
    int failed = fd_write_full(fd, text, strlen(text));
    if (!failed)
        failed = fd_write_full(fd, "\n", 1);
    if (failed)
        unlinkat(dir_fd, name, 0);
    return failed ? error_set(err, -failed, "write %s/%s", dir, name) : 0;
}

static int spec_run(const struct context *context, int argc, char **argv, struct error *err)
{
    (void)context;
    struct spec_options options = {.bundle = ".", .file = SPEC_FILE};
    int count = command_parse(&cmd_spec, &options, argc, argv, err);
    if (count < 0)
        return count;
    cleanup_json json_t *spec = spec_default(options.rootless, err);
    if (!spec)
        return -1;
    cleanup_free char *text = json_dumps(spec, JSON_INDENT(4) | JSON_PRESERVE_ORDER);
    if (!text)
        return error_set(err, ENOMEM, "spec");
    return spec_write(options.bundle, options.file, text, err);
}

const struct command cmd_spec = {.name = "spec",
                                 .arguments = "",
                                 .help = "write a config.json to start from",
                                 .options = option_rows,
                                 .arguments_min = 0,
                                 .arguments_max = 0,
                                 .no_store = true,
                                 .run = spec_run};
