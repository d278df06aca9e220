#!/bin/bash
# list shows every container with its status, as a table, as JSON and quietly; broken state does not hide the others.
. "${0%/*}/lib.sh"

equal "an empty list" "$(husk list --quiet)" ""
bundle_make "$bundle" '.process.args = ["sleep", "1000"]'
husk create --bundle "$bundle" one > /dev/null 2>&1 < /dev/null
husk create --bundle "$bundle" two > /dev/null 2>&1 < /dev/null
husk start two
equal "list --quiet" "$(husk list --quiet | sort | xargs)" "one two"
equal "list --format json" "$(husk list --format json | jq -r 'sort_by(.id)[] | [.id, .status, .bundle] | join(" ")')" \
  "one created $bundle"$'\n'"two running $bundle"
matches "the table's head" "$(husk list | head -n 1)" '^ID +PID +STATUS +BUNDLE +CREATED +OWNER'
matches "a row of the table" "$(husk list | grep ^two)" "^two +$(state_of two .pid) +running +$bundle +.* +root"
fails_with 'format' husk list --format xml
husk delete --force one
husk delete --force two
