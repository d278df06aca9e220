/* Fuzz target: a config.json from a hostile host. It is refused with a text, or taken whole. */
#include "agent/spec.h"
#include "common/json.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libseccomp 2.5.4 loses nodes of some rules that it merges; that contexts are released is the unit tests'
 * matter. */
const char *__lsan_default_suppressions(void)
{
    return "leak:libseccomp.so";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    cleanup_json json_t *config = json_parse_object((const char *)data, size, &err);
    if (!config)
        return 0;
    struct spec *spec = spec_new(config, &err);
    /* A refusal names something, and what is taken has a program. */
    if (spec ? !spec->process.args[0] || !spec->process.cwd : !err.text[0])
        abort();
    spec_free(spec);
    return 0;
}
