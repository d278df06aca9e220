#!/bin/bash
# The guest's kernel panics (sysrq): the container is reported stopped because of a panic within 2 s.
. "${0%/*}/lib.sh"

crash_start 'echo up; read -r go; echo c > /proc/sysrq-trigger'
crash_trigger
crash_expect '[Pp]anic'
