#!/bin/bash
# --log-format json: an error is a line of JSON with level, msg and time, as runc's callers read it; text by default.
. "${0%/*}/lib.sh"

command husk --root "$state" --log "$work/json" --log-format json state nobody 2> /dev/null && fail "state of nobody ended with 0"
equal "members" "$(tail -n 1 "$work/json" | jq -r '[.level, (.msg | test("does not exist")), (.time | test("^[0-9-]+T[0-9:.]+(Z|[+-])"))] | join(" ")')" \
  "error true true"
bundle_make "$bundle" '.process.args = ["/no/such\n\"program"]'
command husk --root "$state" --log "$work/json" --log-format json run --bundle "$bundle" c1 2> /dev/null < /dev/null && fail "run ended with 0"
ok "every line is JSON" jq -e .level "$work/json" > /dev/null

command husk --root "$state" --log "$work/text" state nobody 2> /dev/null && fail "state of nobody ended with 0"
matches "the text log" "$(cat "$work/text")" 'does not exist'
fails_with 'log-format|format' command husk --root "$state" --log-format xml state nobody
