#!/usr/bin/env python3
"""stream.py write|check BYTES: writes, or reads and compares, a stream whose every 64 KiB differ, at little cost.

check ends with 0 when stdin is exactly that stream, else it says at which byte it is not.
"""
import random
import sys

BLOCK = 65536


def blocks(total):
    base = random.Random(1).randbytes(BLOCK - 8)
    for number in range(-(-total // BLOCK)):
        yield (number.to_bytes(8, "little") + base)[: total - number * BLOCK]


def main():
    what, total = sys.argv[1], int(sys.argv[2])
    if what == "write":
        for block in blocks(total):
            sys.stdout.buffer.write(block)
        return
    at = 0
    for block in blocks(total):
        got = sys.stdin.buffer.read(len(block))
        if got != block:
            same = next((i for i, (a, b) in enumerate(zip(got, block)) if a != b), len(got))
            sys.exit(f"differs at byte {at + same}" if same < len(got) else f"ends after {at + same} bytes")
        at += len(block)
    if sys.stdin.buffer.read(1):
        sys.exit(f"goes on after {total} bytes")


main()
