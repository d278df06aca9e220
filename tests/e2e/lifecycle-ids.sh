#!/bin/bash
# IDs: those that runc takes work, those that could leave the state directory are refused.
. "${0%/*}/lib.sh"

bundle_make "$bundle" '.process.args = ["true"]'
for id in '' . .. ../x a/b /abs 'a b' $'a\nb' 'ä' "$(printf 'x%.0s' {1..200})"; do
  fails_with 'ID|id' husk create --bundle "$bundle" "$id"
  fails_with 'ID|id|does not exist' husk state "$id"
  fails_with 'ID|id|does not exist' husk delete "$id"
done
ok "an unusual ID" husk run --bundle "$bundle" 'A_b+c.d-9' < /dev/null
