#!/bin/bash
# The root file system does in the guest what it does on the host, in every corner case of guest/fs-semantics.py.
# limit: 240
. "${0%/*}/lib.sh"

fs_semantics_compare
