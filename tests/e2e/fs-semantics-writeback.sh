#!/bin/bash
# The same with the cache policy `always` and writeback, for trees that nobody else changes.
# limit: 240
. "${0%/*}/lib.sh"

guest_config='| .annotations["io.husk.fs_cache"] = "always" | .annotations["io.husk.fs_writeback"] = "true"'
fs_semantics_compare
