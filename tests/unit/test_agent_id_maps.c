/* Unit tests of id mappings (agent/spec_namespaces.c): what is read, and where an id leads. */
#include "agent/spec.h"
#include "agent/spec_sections.h"
#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The maps of a list in JSON; *count is -1 when it is refused, and then `said` tells why. */
static struct spec_id_map *parse(const char *list, int *count, struct error *said)
{
    struct spec_id_map *maps = NULL;
    size_t parsed = 0;
    cleanup_json json_t *object = json_object();
    json_t *value = json_loads(list, 0, NULL);
    assert_non_null(value);
    json_object_set_new(object, "uidMappings", value);
    *said = (struct error){0};
    int rc = spec_id_maps_parse(&maps, &parsed, object, "linux", "uidMappings", said);
    *count = rc < 0 ? -1 : (int)parsed;
    return maps;
}

static void assert_refused(const char *list, const char *words)
{
    struct error said;
    int count;
    free(parse(list, &count, &said));
    assert_int_equal(count, -1);
    if (!strstr(said.text, words))
        fail_msg("expected \"%s\" in: %s", words, said.text);
}

static void ids_lead_through_the_map_that_has_them(void **state)
{
    (void)state;
    static const struct spec_id_map maps[] = {{0, 100000, 10}, {20, 5, 1}, {30, 200000, 65536}};
    assert_int_equal(spec_id_outside(maps, 3, 0), 100000);
    assert_int_equal(spec_id_outside(maps, 3, 9), 100009);
    assert_int_equal(spec_id_outside(maps, 3, 10), -1);
    assert_int_equal(spec_id_outside(maps, 3, 19), -1);
    assert_int_equal(spec_id_outside(maps, 3, 20), 5);
    assert_int_equal(spec_id_outside(maps, 3, 21), -1);
    assert_int_equal(spec_id_outside(maps, 3, 30 + 65535), 200000 + 65535);
    assert_int_equal(spec_id_outside(maps, 3, 30 + 65536), -1);
    assert_int_equal(spec_id_outside(maps, 3, UINT32_MAX), -1);
}

static void ids_outside_are_known(void **state)
{
    (void)state;
    static const struct spec_id_map maps[] = {{0, 100000, 10}, {20, 5, 1}};
    assert_true(spec_id_is_mapped(maps, 2, 100000));
    assert_true(spec_id_is_mapped(maps, 2, 100009));
    assert_false(spec_id_is_mapped(maps, 2, 100010));
    assert_false(spec_id_is_mapped(maps, 2, 99999));
    assert_true(spec_id_is_mapped(maps, 2, 5));
    assert_false(spec_id_is_mapped(maps, 2, 0));
}

static void without_maps_ids_are_the_same(void **state)
{
    (void)state;
    assert_int_equal(spec_id_outside(NULL, 0, 1234), 1234);
    assert_true(spec_id_is_mapped(NULL, 0, 1234));
}

static void lists_are_read(void **state)
{
    (void)state;
    struct error said;
    int count;
    struct spec_id_map *maps = parse("[{\"containerID\":0,\"hostID\":1000,\"size\":1},"
                                     "{\"containerID\":1,\"hostID\":0,\"size\":4294967294}]",
                                     &count, &said);
    assert_int_equal(count, 2);
    assert_int_equal(maps[0].outside, 1000);
    assert_int_equal(maps[1].inside, 1);
    assert_int_equal(maps[1].count, 4294967294u);
    free(maps);
    maps = parse("[{\"containerID\":0,\"hostID\":0,\"size\":4294967295}]", &count, &said); /* as on a host */
    assert_int_equal(count, 1);
    free(maps);
}

static void bad_lists_are_refused_with_the_place(void **state)
{
    (void)state;
    assert_refused("[{\"containerID\":0,\"hostID\":0}]", "linux.uidMappings[0].size");
    assert_refused("[{\"containerID\":0,\"size\":1}]", "linux.uidMappings[0].hostID");
    assert_refused("[{\"hostID\":0,\"size\":1}]", "linux.uidMappings[0].containerID");
    assert_refused("[{\"containerID\":0,\"hostID\":0,\"size\":0}]", "linux.uidMappings[0].size");
    assert_refused("[{\"containerID\":-1,\"hostID\":0,\"size\":1}]", "linux.uidMappings[0].containerID");
    assert_refused(
        "[{\"containerID\":0,\"hostID\":0,\"size\":1},{\"containerID\":1,\"hostID\":1,\"size\":4294967295}]",
        "linux.uidMappings[1].size: 4294967295 reaches beyond the last id");
    assert_refused("[{\"containerID\":4294967290,\"hostID\":0,\"size\":6}]", "reaches beyond the last id");
    assert_refused("[{\"containerID\":0,\"hostID\":4294967290,\"size\":6}]", "reaches beyond the last id");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_lead_through_the_map_that_has_them), cmocka_unit_test(ids_outside_are_known),
        cmocka_unit_test(without_maps_ids_are_the_same),          cmocka_unit_test(lists_are_read),
        cmocka_unit_test(bad_lists_are_refused_with_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
