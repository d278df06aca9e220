/*
 * Containers by a regular expression: see container.h. Used by kill and delete.
 */
#include "shim/container.h"

#include <dirent.h>
#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

int container_for_each_match(const struct context *context, const char *expression,
                             int (*fn)(const struct context *context, const char *id, void *arg,
                                       struct error *err),
                             void *arg, struct error *err)
{
    regex_t regex;
    struct dirent **entries;
    char text[128];
    int code = regcomp(&regex, expression, REG_EXTENDED | REG_NOSUB);
    if (code != 0) {
        regerror(code, &regex, text, sizeof(text));
        return error_set(err, 0, "--regex \"%s\": %s", expression, text);
    }
    int count = scandirat(context->store.containers_fd, ".", &entries, NULL, alphasort);
    if (count < 0) {
        regfree(&regex);
        return error_set(err, errno, "read %s/containers", context->store.root);
    }
    int result = 0;
    for (int i = 0; i < count; i++) {
        const char *id = entries[i]->d_name;
        struct error own;
        if (store_check_id(id, NULL) == 0 && regexec(&regex, id, 0, NULL, 0) == 0 &&
            fn(context, id, arg, &own) < 0 && result == 0) {
            result = -1;
            *err = own;
        }
        free(entries[i]);
    }
    free(entries);
    regfree(&regex);
    return result;
}
