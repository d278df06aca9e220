#!/bin/bash
# stdin reaches the program as it is and ends where it ends; an empty one and a closed one end at once.
. "${0%/*}/lib.sh"

head -c 100000 /dev/urandom > "$work/in"
equal "binary stdin" "$(in_guest sha256sum < "$work/in")" "$(sha256sum < "$work/in")"
equal "a closed stdin" "$(in_guest wc -c <&-)" 0
bundle_of_arguments "$bundle" sleep 1000
husk run --detach --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null
equal "the end of a pipe" "$(printf 'no newline' | husk exec c1 cat)" "no newline"
equal "an empty stdin" "$(husk exec c1 wc -c < /dev/null)" 0
husk delete --force c1

# A program that does not read its stdin ends all the same, while the writer is still there.
mkfifo "$work/fifo"
exec 7<> "$work/fifo"
start=$SECONDS
equal "beside an open stdin" "$(in_guest echo through < "$work/fifo" 7>&-)" through
[ $((SECONDS - start)) -lt 60 ] || fail "the container waited for the end of its stdin"
# And one that reads only a part of much.
equal "a part of stdin" "$(head -c 10000000 /dev/zero | in_guest head -c 5 | od -An -tx1)" " 00 00 00 00 00"
exec 7>&-
