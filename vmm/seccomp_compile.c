/*
 * Compiles the system call filters when husk is built: prints seccomp_filters.h, an array of struct
 * sock_filter for each role of seccomp_rules.h. Part of the build, not of husk-vmm.
 */
#include "vmm/seccomp_rules.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int add_rules(scmp_filter_ctx filter, const struct seccomp_rule *rules, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct seccomp_rule *rule = &rules[i];
        struct scmp_arg_cmp compare = SCMP_CMP(rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value);
        int rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rule->call, rule->mask ? 1 : 0, &compare);
        if (rc < 0 && rc != -EEXIST) {
            fprintf(stderr, "seccomp_compile: call %d (%s): %s\n", rule->call, rule->why, strerror(-rc));
            return -1;
        }
    }
    return 0;
}

/* libseccomp gives the program out only through a descriptor. */
static int print_program(scmp_filter_ctx filter, const char *name)
{
    FILE *file = tmpfile();
    struct sock_filter instruction;
    if (!file || seccomp_export_bpf(filter, fileno(file)) < 0 || fseek(file, 0, SEEK_SET) != 0)
        return -1;
    printf("static const struct sock_filter filter_%s[] = {\n", name);
    while (fread(&instruction, sizeof(instruction), 1, file) == 1)
        printf("    {0x%02x, %u, %u, 0x%08x},\n", instruction.code, instruction.jt, instruction.jf,
               instruction.k);
    printf("};\n\n");
    int failed = ferror(file);
    fclose(file);
    return failed ? -1 : 0;
}

static int add_children(scmp_filter_ctx filter, const char *const *children)
{
    for (; children && *children; children++) {
        for (size_t i = 0; i < sizeof(seccomp_roles) / sizeof(seccomp_roles[0]); i++) {
            const struct seccomp_role_rules *role = &seccomp_roles[i];
            if (strcmp(role->name, *children) == 0 && add_rules(filter, role->rules, role->count) < 0)
                return -1;
        }
    }
    return 0;
}

static int compile_role(const struct seccomp_role_rules *role)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return -1;
    int rc = -1;
    /* Optimisation 2: a binary search over call numbers. */
    if (seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 &&
        add_rules(filter, rules_common, sizeof(rules_common) / sizeof(rules_common[0])) == 0 &&
        add_rules(filter, role->rules, role->count) == 0 && add_children(filter, role->children) == 0)
        rc = print_program(filter, role->name);
    seccomp_release(filter);
    return rc;
}

int main(void)
{
    puts("/* Made by seccomp_compile from seccomp_rules.h. */");
    for (size_t i = 0; i < sizeof(seccomp_roles) / sizeof(seccomp_roles[0]); i++) {
        if (compile_role(&seccomp_roles[i]) < 0) {
            fprintf(stderr, "seccomp_compile: role %s failed\n", seccomp_roles[i].name);
            return 1;
        }
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
