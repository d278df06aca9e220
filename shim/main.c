/*
 * husk: the OCI command line. Called by podman, conmon, CRI-O, containerd's shim, and people.
 *
 * Parses the global options, opens log and state directories, finds the command, and prints the one error
 * line. All that comes in here is the caller's, who may do to its own containers what it likes; what is
 * checked is checked to tell mistakes early.
 */
#include "common/fd.h"
#include "common/log.h"
#include "shim/command.h"
#include "shim/config.h"
#include "shim/host_cgroup.h"
#include "shim/rootless.h"
#include "shim/version.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROOT_DEFAULT "/run/husk"

#define GLOBAL(name) offsetof(struct global_options, name)
static const struct option_row global_rows[] = {
    {"root", 0, "DIR", "directory of state (default: " ROOT_DEFAULT ", or below XDG_RUNTIME_DIR)",
     option_set_string, GLOBAL(root)},
    {"log", 0, "FILE", "file for the log (default: standard error)", option_set_string, GLOBAL(log)},
    {"log-format", 0, "FORMAT", "text (default) or json", option_set_string, GLOBAL(log_format)},
    {"log-level", 0, "LEVEL", "error, warn (default), info or debug", option_set_string, GLOBAL(log_level)},
    {"debug", 0, NULL, "the same as --log-level debug", option_set_flag, GLOBAL(debug)},
    {"systemd-cgroup", 0, NULL, "cgroupsPath is in systemd's form", option_set_flag, GLOBAL(systemd_cgroup)},
    {"cgroup-manager", 0, "NAME", "cgroupfs, systemd or disabled", option_set_string, GLOBAL(cgroup_manager)},
    {"rootless", 0, "VALUE", "true, false or auto: accepted, the cgroup manager decides", option_set_string,
     GLOBAL(rootless)},
    {"criu", 0, "PATH", "accepted: checkpoints do not need criu", option_set_string, GLOBAL(criu)},
    {"config-dir", 0, "DIR", "where husk.conf lies (default: " CONFIG_DIR_DEFAULT ")", option_set_string,
     GLOBAL(config_dir)},
    {"version", 'v', NULL, "print the version", option_set_flag, GLOBAL(version)},
    {"version", 'V', NULL, "the same", option_set_flag, GLOBAL(version)}, /* crun's letter */
    {0}};

static void print_help(FILE *out)
{
    fprintf(out,
            "NAME:\n   husk - an OCI runtime that gives each pod its own Linux kernel in a KVM microVM\n\n"
            "USAGE:\n   husk [global options] command [command options] [arguments...]\n\n"
            "VERSION:\n   " HUSK_VERSION "\n\nCOMMANDS:\n");
    command_print_all(out);
    fprintf(out, "\nGLOBAL OPTIONS:\n");
    options_print_help(global_rows, out);
    fprintf(out, "   %-33s %s\n\n\"husk COMMAND --help\" explains a command.\n", "--help, -h", "show help");
}

/* As runc's: engines show these lines, podman among its `info`. */
static void print_version(void)
{
    printf("husk version " HUSK_VERSION "\ncommit: " VERSION_COMMIT "\nspec: " VERSION_SPEC
           "\nlibseccomp: " VERSION_LIBSECCOMP "\n");
}

/* Files opened later must not take the place of a standard stream that the caller closed. */
static int ensure_standard_fds(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd < 0)
        return -1;
    return close(fd);
}

static int parse_level(const struct global_options *options, enum log_level *level, struct error *err)
{
    static const struct {
        const char *name;
        enum log_level level;
    } names[] = {{"error", LOG_LEVEL_ERR}, {"warn", LOG_LEVEL_WARN},   {"warning", LOG_LEVEL_WARN},
                 {"info", LOG_LEVEL_INFO}, {"debug", LOG_LEVEL_DEBUG}, {"trace", LOG_LEVEL_DEBUG},
                 {"fatal", LOG_LEVEL_ERR}, {"panic", LOG_LEVEL_ERR}};
    *level = options->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN;
    if (!options->log_level)
        return 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i].name, options->log_level) == 0) {
            *level = options->debug ? LOG_LEVEL_DEBUG : names[i].level;
            return 0;
        }
    }
    return error_set(err, 0, "--log-level: unknown level \"%s\"", options->log_level);
}

static int open_log(struct context *context, struct error *err)
{
    enum log_level level;
    const char *format = context->options.log_format;
    if (parse_level(&context->options, &level, err) < 0)
        return -1;
    if (format && strcmp(format, "json") != 0 && strcmp(format, "text") != 0)
        return error_set(err, 0, "--log-format: unknown format \"%s\"", format);
    context->log_format = format && strcmp(format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
    const char *path = context->options.log;
    if (path && (strncmp(path, "journald:", 9) == 0 || strncmp(path, "syslog:", 7) == 0))
        return error_set(err, 0, "--log %s: only files are supported", path);
    if (path) {
        path += strncmp(path, "file:", 5) == 0 ? 5 : 0; /* crun's forms */
        context->log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (context->log_fd < 0)
            return error_set(err, errno, "--log %s", path);
    }
    log_init("husk", context->log_fd >= 0 ? context->log_fd : STDERR_FILENO, context->log_format, level);
    return 0;
}

/* /run/husk for the machine's root; others have a directory of their own, if their session gave them one. */
static int open_store(struct context *context, struct error *err)
{
    char own[PATH_MAX];
    const char *root = context->options.root;
    if (!root && rootless_caller()) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        bool given = runtime && *runtime == '/';
        if (!given && geteuid() != 0)
            return error_set(err, 0, "--root is not given and XDG_RUNTIME_DIR is not set");
        if (given) { /* else root of a user namespace, who may have a /run there */
            snprintf(own, sizeof(own), "%s/husk", runtime);
            root = own;
        }
    }
    return store_init(&context->store, root ? root : ROOT_DEFAULT, err);
}

static int check_rootless(const char *value, struct error *err)
{
    if (!value || strcmp(value, "true") == 0 || strcmp(value, "false") == 0 || strcmp(value, "auto") == 0)
        return 0;
    return error_set(err, 0, "--rootless: \"%s\" is neither true, false nor auto", value);
}

/* `husk help` and `husk help COMMAND`. */
static int run_help(int argc, char **argv, struct error *err)
{
    if (argc < 2) {
        print_help(stdout);
        return 0;
    }
    const struct command *command = command_find(argv[1]);
    if (!command)
        return error_set(err, 0, "unknown command \"%s\" (husk --help lists them)", argv[1]);
    command_print_help(command, stdout);
    return 0;
}

static int run_command(struct context *context, int argc, char **argv, struct error *err)
{
    if (strcmp(argv[0], "help") == 0 || strcmp(argv[0], "h") == 0)
        return run_help(argc, argv, err);
    const struct command *command = command_find(argv[0]);
    if (!command)
        return error_set(err, 0, "unknown command \"%s\" (husk --help lists them)", argv[0]);
    bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    if (!command->no_store && !help && open_store(context, err) < 0)
        return -1;
    int status = command->run(context, argc - 1, argv + 1, err);
    if (status != COMMAND_HELP)
        return status;
    command_print_help(command, stdout);
    return 0;
}

static int run(struct context *context, int argc, char **argv, struct error *err)
{
    enum cgroup_manager manager;
    int count = options_parse(global_rows, &context->options, argc - 1, argv + 1, false, err);
    if (count == OPTIONS_HELP) {
        print_help(stdout);
        return 0;
    }
    if (count < 0 || open_log(context, err) < 0 ||
        host_cgroup_choose_manager(context->options.cgroup_manager, context->options.systemd_cgroup, &manager,
                                   err) < 0 ||
        check_rootless(context->options.rootless, err) < 0)
        return -1;
    if (context->options.version) {
        print_version();
        return 0;
    }
    if (count == 0) {
        print_help(stderr);
        return 1;
    }
    return run_command(context, count, argv + 1, err);
}

int main(int argc, char **argv)
{
    struct context context = {.options = {.config_dir = CONFIG_DIR_DEFAULT},
                              .store = {.containers_fd = -1, .sandboxes_fd = -1},
                              .log_fd = -1};
    struct error err;
    if (ensure_standard_fds() < 0)
        return 1;
    /* What the caller ignores is inherited: children are waited for, and a peer that goes is an errno. */
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    int status = run(&context, argc, argv, &err);
    if (status < 0) {
        command_report(&context, err.text);
        status = 1;
    }
    store_fini(&context.store);
    fd_close(&context.log_fd);
    if (fflush(stdout) != 0 || ferror(stdout))
        return status ? status : 1;
    return status;
}
