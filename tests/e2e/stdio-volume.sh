#!/bin/bash
# 1 GB through `cat`, in by stdin and out by stdout, compares equal.
# limit: 400
. "${0%/*}/lib.sh"

readonly bytes=$((1000 * 1000 * 1000))
# A stream whose every block differs, at little cost: a counter through a cipher.
stream() { openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 0 -nosalt < /dev/zero 2> /dev/null | head -c $bytes; }
sum=$(in_guest cat < <(stream) | tee >(wc -c > "$work/bytes") | sha256sum)
equal "bytes" "$(cat "$work/bytes")" $bytes
equal "checksum" "$sum" "$(stream | sha256sum)"
