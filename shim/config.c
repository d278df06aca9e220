/*
 * Configuration files and annotations: see config.h. Trust: files are root's, annotations are foreign and
 * reach only rows that carry an annotation.
 */
#include "shim/config.h"

#include "common/fd.h"
#include "common/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX  (1u << 20)
#define ANNOTATION_PREFIX "io.husk."
#define KATA_PREFIX       "io.katacontainers.config."

struct setting {
    const char *key;
    int (*set)(const struct setting *setting, void *field, const char *value, struct error *err);
    size_t offset;
    bool annotation; /* whether io.husk.KEY may set it */
    const char *kata_annotation;
    size_t stated;              /* of a flag that an annotation sets too; 0: none */
    uint64_t min, max;          /* of a number */
    const char *const *choices; /* of a choice */
};

static int setting_set_text(const struct setting *setting, void *field, const char *value, struct error *err)
{
    (void)setting;
    char *copy = strdup(value);
    if (!copy)
        return error_set(err, ENOMEM, "configuration");
    free(*(char **)field);
    *(char **)field = copy;
    return 0;
}

static int setting_set_path(const struct setting *setting, void *field, const char *value, struct error *err)
{
    if (value[0] != '/')
        return error_set(err, 0, "\"%s\" is no absolute path", value);
    return setting_set_text(setting, field, value, err);
}

/* Parameters from several places add up. */
static int setting_append_text(const struct setting *setting, void *field, const char *value,
                               struct error *err)
{
    const char *before = *(char **)field;
    cleanup_free char *joined = NULL;
    if (before && *before && asprintf(&joined, "%s %s", before, value) < 0)
        return error_set(err, ENOMEM, "configuration");
    return setting_set_text(setting, field, joined ? joined : value, err);
}

static int setting_set_number(const struct setting *setting, void *field, const char *value,
                              struct error *err)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno)
        return error_set(err, 0, "\"%s\" is no number", value);
    if (number < setting->min || number > setting->max)
        return error_set(err, 0, "%s is not within %llu and %llu", value, (unsigned long long)setting->min,
                         (unsigned long long)setting->max);
    *(uint64_t *)field = number;
    return 0;
}

static int setting_set_flag(const struct setting *setting, void *field, const char *value, struct error *err)
{
    (void)setting;
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return error_set(err, 0, "\"%s\" is neither true nor false", value);
    *(bool *)field = strcmp(value, "true") == 0;
    return 0;
}

static int setting_set_choice(const struct setting *setting, void *field, const char *value,
                              struct error *err)
{
    for (const char *const *choice = setting->choices; *choice; choice++) {
        if (strcmp(*choice, value) == 0)
            return setting_set_text(setting, field, value, err);
    }
    return error_set(err, 0, "\"%s\" is none of the choices (%s, ...)", value, setting->choices[0]);
}

static const char *const fs_cache_choices[] = {"none", "auto", "always", NULL};

#define FIELD(name) .key = #name, .offset = offsetof(struct config, name)
#define KATA_VM     KATA_PREFIX "hypervisor."
static const struct setting settings[] = {
    {FIELD(vmm), .set = setting_set_path},
    {FIELD(kernel), .set = setting_set_path},
    {FIELD(initramfs), .set = setting_set_path},
    {FIELD(vcpus), .set = setting_set_number, .annotation = true, .kata_annotation = KATA_VM "default_vcpus",
     .stated = offsetof(struct config, vcpus_stated), .min = 1, .max = 32},
    {FIELD(vcpus_max), .set = setting_set_number, .max = 32},
    {FIELD(memory_mib), .set = setting_set_number, .annotation = true,
     .kata_annotation = KATA_VM "default_memory", .stated = offsetof(struct config, memory_stated), .min = 64,
     .max = 512 * 1024},
    {FIELD(memory_min_mib), .set = setting_set_number, .min = 64, .max = 512 * 1024},
    {FIELD(memory_max_mib), .set = setting_set_number, .max = 512 * 1024},
    {FIELD(guest_overhead_mib), .set = setting_set_number, .min = 32, .max = 64 * 1024},
    {FIELD(vmm_overhead_mib), .set = setting_set_number, .min = 16, .max = 64 * 1024},
    {FIELD(vmm_overhead_cpu), .set = setting_set_number, .max = 3200},
    {FIELD(kernel_params), .set = setting_append_text, .annotation = true,
     .kata_annotation = KATA_VM "kernel_params"},
    {FIELD(fs_cache), .set = setting_set_choice, .annotation = true,
     .kata_annotation = KATA_VM "virtio_fs_cache", .choices = fs_cache_choices},
    {FIELD(fs_writeback), .set = setting_set_flag, .annotation = true},
    {FIELD(hugepages), .set = setting_set_flag, .annotation = true,
     .kata_annotation = KATA_VM "enable_hugepages"},
    {FIELD(prefault), .set = setting_set_flag, .annotation = true,
     .kata_annotation = KATA_VM "enable_mem_prealloc"},
    {FIELD(cpu_mask), .set = setting_set_text, .annotation = true},
    {FIELD(agent_timeout_s), .set = setting_set_number, .min = 1, .max = 3600},
    {FIELD(stop_timeout_s), .set = setting_set_number, .min = 1, .max = 3600},
};
#define SETTINGS_COUNT (sizeof(settings) / sizeof(settings[0]))

/* One of husk's own files: in the build tree, or below the prefix into which husk is installed. The last
 * place when it is in neither: the error, when it is opened, names it. */
static char *config_find_file(const char *own_dir, const char *built, const char *installed)
{
    char path[2 * PATH_MAX];
    const char *prefix_end = strrchr(own_dir, '/'); /* NULL for a husk in the root directory */
    snprintf(path, sizeof(path), "%s/%s", own_dir, built);
    if (access(path, F_OK) != 0)
        snprintf(path, sizeof(path), "%.*s/%s", (int)(prefix_end ? prefix_end - own_dir : 0), own_dir,
                 installed);
    return strdup(path);
}

static int config_set_defaults(struct config *config, struct error *err)
{
    char own[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
    if (length < 0)
        return error_set(err, errno, "read /proc/self/exe");
    own[length] = '\0';
    *strrchr(own, '/') = '\0';
    *config = (struct config){
        .vmm = config_find_file(own, "husk-vmm", "libexec/husk/husk-vmm"),
        .kernel = config_find_file(own, "../guest/vmlinux", "share/husk/vmlinux"),
        .initramfs = config_find_file(own, "../guest/initramfs.cpio", "share/husk/initramfs.cpio"),
        .vcpus = 1,
        .memory_mib = 1024,
        .memory_min_mib = 128,
        .guest_overhead_mib = 96,
        .vmm_overhead_mib = 64,
        .vmm_overhead_cpu = 25,
        .fs_cache = strdup("auto"),
        .agent_timeout_s = 60,
        .stop_timeout_s = 10,
    };
    if (!config->vmm || !config->kernel || !config->initramfs || !config->fs_cache)
        return error_set(err, ENOMEM, "configuration");
    return 0;
}

static char *config_trim(char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t\r", text[length - 1]))
        text[--length] = '\0';
    return text;
}

static int config_apply_line(struct config *config, char *line, struct error *err)
{
    line = config_trim(line);
    if (!*line || *line == '#')
        return 0;
    char *equals = strchr(line, '=');
    if (!equals)
        return error_set(err, 0, "expected \"key = value\"");
    *equals = '\0';
    const char *key = config_trim(line);
    const char *value = config_trim(equals + 1);
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (strcmp(settings[i].key, key) != 0)
            continue;
        if (settings[i].set(&settings[i], (char *)config + settings[i].offset, value, err) < 0)
            return error_wrap(err, "%s", key);
        return 0;
    }
    return error_set(err, 0, "unknown key \"%s\"", key);
}

static int config_apply_file(struct config *config, const char *path, struct error *err)
{
    cleanup_free char *text = NULL;
    ssize_t length = fd_read_file_at(AT_FDCWD, path, CONFIG_BYTES_MAX, &text);
    if (length == -ENOENT)
        return 0;
    if (length < 0)
        return error_set(err, (int)-length, "read %s", path);
    unsigned number = 1;
    for (char *line = text, *next; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        if (config_apply_line(config, line, err) < 0)
            return error_wrap(err, "%s:%u", path, number);
    }
    return 0;
}

static int config_is_conf(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* strcmp order, not the locale's: the same for every caller. */
static int config_compare(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int config_load(struct config *config, const char *dir, struct error *err)
{
    *config = (struct config){0};
    char path[PATH_MAX];
    if (config_set_defaults(config, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/husk.conf", dir);
    if (config_apply_file(config, path, err) < 0)
        return -1;
    snprintf(path, sizeof(path), "%s/husk.conf.d", dir);
    struct dirent **entries;
    int count = scandir(path, &entries, config_is_conf, config_compare);
    if (count < 0)
        return errno == ENOENT ? 0 : error_set(err, errno, "read %s", path);
    int result = 0;
    for (int i = 0; i < count; i++) {
        char file[2 * PATH_MAX];
        snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        if (result == 0)
            result = config_apply_file(config, file, err);
        free(entries[i]);
    }
    free(entries);
    return result;
}

/* The row that an annotation sets, or NULL. */
static const struct setting *config_find_annotation(const char *name)
{
    bool own = strncmp(name, ANNOTATION_PREFIX, strlen(ANNOTATION_PREFIX)) == 0;
    for (size_t i = 0; i < SETTINGS_COUNT; i++) {
        if (own && settings[i].annotation && strcmp(settings[i].key, name + strlen(ANNOTATION_PREFIX)) == 0)
            return &settings[i];
        if (settings[i].kata_annotation && strcmp(settings[i].kata_annotation, name) == 0)
            return &settings[i];
    }
    return NULL;
}

int config_apply_annotations(struct config *config, const json_t *annotations, struct error *err)
{
    const char *name;
    json_t *value;
    /* jansson iterates without changing the object; its interface merely lacks the const. */
    json_object_foreach((json_t *)(uintptr_t)annotations, name, value)
    {
        const struct setting *setting = config_find_annotation(name);
        if (!setting && strncmp(name, ANNOTATION_PREFIX, strlen(ANNOTATION_PREFIX)) == 0)
            return error_set(err, 0, "annotation %s is unknown or not allowed", name);
        if (!setting && strncmp(name, KATA_PREFIX, strlen(KATA_PREFIX)) == 0)
            log_warn("annotation ignored name=%s", name);
        if (!setting)
            continue;
        if (!json_is_string(value))
            return error_set(err, 0, "annotation %s: expected a string", name);
        if (setting->set(setting, (char *)config + setting->offset, json_string_value(value), err) < 0)
            return error_wrap(err, "annotation %s", name);
        if (setting->stated)
            *(bool *)((char *)config + setting->stated) = true;
    }
    return 0;
}

void config_fini(struct config *config)
{
    free(take_ptr(&config->vmm));
    free(take_ptr(&config->kernel));
    free(take_ptr(&config->initramfs));
    free(take_ptr(&config->kernel_params));
    free(take_ptr(&config->fs_cache));
    free(take_ptr(&config->cpu_mask));
}
