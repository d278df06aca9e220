#!/bin/bash
# The same with the cache policy `none`: every operation reaches the server.
# limit: 240
. "${0%/*}/lib.sh"

guest_config='| .annotations["io.husk.fs_cache"] = "none"'
fs_semantics_compare
