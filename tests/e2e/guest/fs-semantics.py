#!/usr/bin/python3
"""What a file system does with the corner cases of POSIX and Linux: fs-semantics.py DIRECTORY [CASE...]

Each case prints what it saw, one line; nothing that differs between two runs on the same file system is printed. The test
runs it on a local file system and on virtio-fs and compares. A case that raises is printed as FAILED.
"""
import ctypes
import ctypes.util
import errno
import fcntl
import mmap
import multiprocessing
import os
import pickle
import socket
import stat
import struct
import subprocess
import sys
import threading
import time

libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
CASES = {}
AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = 0x1000, 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def case(function):
    CASES[function.__name__] = function
    return function


def outcome(function, *args, **kwargs):
    """The result, or the name of the errno."""
    try:
        return function(*args, **kwargs)
    except OSError as e:
        return errno.errorcode[e.errno]


def sys_call(result):
    if result < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return result


def write(path, data=b"data", mode=0o644):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def mode(path):
    s = os.lstat(path)
    return oct(s.st_mode)


def in_child(function, *args, prepare=lambda: None):
    """The outcome of the function in a child."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            result = outcome(function, *args)
        except Exception as e:
            result = f"FAILED {e!r}"
        os.write(w, pickle.dumps(result))
        os._exit(0)
    os.close(w)
    with open(r, "rb") as f:
        result = pickle.loads(f.read())
    os.waitpid(pid, 0)
    return result


def as_user(uid, gid, groups, function, *args):
    return in_child(function, *args, prepare=lambda: (os.setgroups(groups), os.setresgid(gid, gid, gid),
                                                      os.setresuid(uid, uid, uid)))


def rename2(a, b, flags):
    return sys_call(libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags))


# --- Names and directories ------------------------------------------------------


@case
def rename_over():
    write("a", b"1"), write("b", b"2"), os.mkdir("d"), os.mkdir("e"), write("e/x")
    os.rename("a", "b")
    return read("b"), outcome(os.rename, "b", "d"), outcome(os.rename, "d", "b"), outcome(os.rename, "d", "e"), \
        outcome(os.rename, "e", "e/inside"), outcome(os.rename, "nothing", "b"), sorted(os.listdir("."))


@case
def rename_flags():
    write("a", b"1"), write("b", b"2"), os.mkdir("d")
    kept = outcome(rename2, "a", "b", RENAME_NOREPLACE)
    rename2("a", "b", RENAME_EXCHANGE)
    swapped = read("a"), read("b")
    rename2("a", "d", RENAME_EXCHANGE)
    return kept, swapped, os.path.isdir("a"), read("d"), outcome(rename2, "a", "new", RENAME_NOREPLACE), \
        outcome(rename2, "d", "none", RENAME_EXCHANGE), outcome(rename2, "d", "x", RENAME_NOREPLACE | RENAME_EXCHANGE)


@case
def rename_directory_with_open_files():
    os.makedirs("a/b/c"), write("a/b/c/f")
    f = open("a/b/c/f", "r+b")
    cwd = os.open("a/b", os.O_RDONLY)
    os.rename("a/b", "moved")
    f.write(b"more"), f.flush()
    return read("moved/c/f"), os.listdir(cwd), os.path.basename(os.readlink(f"/proc/self/fd/{cwd}"))


@case
def links():
    write("a"), os.mkdir("d")
    os.link("a", "b")
    one, two = os.stat("a"), os.stat("b")
    os.unlink("a")
    os.symlink("b", "s"), os.symlink("nowhere", "dangling"), os.symlink("loop", "loop")
    os.link("s", "hard-to-soft", follow_symlinks=False)
    return one.st_ino == two.st_ino, one.st_nlink, os.stat("b").st_nlink, outcome(os.link, "d", "dd"), \
        outcome(os.link, "b", "s"), os.readlink("hard-to-soft"), outcome(open, "dangling"), outcome(open, "loop"), \
        outcome(os.symlink, "x" * 4096, "long"), outcome(os.symlink, "x" * 4000, "long"), os.lstat("s").st_size


@case
def names():
    odd = [b"\xff\xfe", b"new\nline", b" ", b"-rf", b"\x01", "ä€😀".encode(), b"x" * 255, b"...", b"*", b"a\\b", b"%s%n"]
    for n in odd:
        write(os.path.join(b".", n), n)
    listed = sorted(os.listdir(b"."))
    return listed == sorted(odd), all(read(os.path.join(b".", n)) == n for n in odd), outcome(write, "x" * 256), \
        outcome(os.mkdir, "."), outcome(os.rmdir, "."), outcome(os.mkdir, "y" * 256), outcome(os.stat, "x" * 256)


@case
def deep():
    os.mkdir("deep")
    top = os.open(".", os.O_RDONLY)
    os.chdir("deep")
    for i in range(60):
        os.mkdir("d" * 100), os.chdir("d" * 100)
    write("bottom")
    found = os.path.exists("bottom"), outcome(lambda: len(os.getcwd()) > 4096)
    os.fchdir(top)
    return found, subprocess.run(["rm", "-r", "deep"]).returncode, os.listdir(".")


@case
def readdir_large():
    os.mkdir("d")
    for i in range(300):
        os.close(os.open(f"d/{i:05}-{'n' * (i % 60)}", os.O_CREAT | os.O_WRONLY))
    entries = list(os.scandir("d"))
    kinds = all(e.is_file(follow_symlinks=False) for e in entries)
    names = {e.name for e in entries}
    # Half is removed while the directory is being read: each of the others must be seen once.
    seen = []
    with os.scandir("d") as it:
        for e in it:
            seen.append(e.name)
            if int(e.name[:5]) % 2 and len(seen) > 100:
                os.unlink(f"d/{e.name}")
    evens = {n for n in names if int(n[:5]) % 2 == 0}
    return len(entries), len(names), kinds, len(seen) == len(set(seen)), evens <= set(seen), \
        {e.inode() for e in entries} >= {os.stat(f"d/{n}").st_ino for n in os.listdir("d")}


@case
def directories():
    os.mkdir("d"), os.mkdir("d/e"), write("d/f")
    many = os.stat("d").st_nlink
    return many, outcome(os.rmdir, "d"), outcome(os.rmdir, "d/f"), outcome(os.unlink, "d/e"), outcome(os.mkdir, "d"), \
        outcome(os.listdir, "d/f"), outcome(os.open, "d", os.O_WRONLY), outcome(os.mkdir, "nothing/x"), \
        outcome(os.mkdir, "d/f/x"), outcome(os.rmdir, "nothing"), outcome(os.open, "d/f", os.O_DIRECTORY)


@case
def removed_directory():
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    return outcome(os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd), os.listdir(fd), os.fstat(fd).st_nlink


@case
def special_files():
    os.mkfifo("fifo", 0o640), os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3)), os.mknod("reg", 0o600)
    s = socket.socket(socket.AF_UNIX)
    s.bind("sock"), s.listen()
    c = socket.socket(socket.AF_UNIX)
    c.connect("sock")
    writer = threading.Thread(target=lambda: write("fifo", b"through"))
    writer.start()
    got = read("fifo")
    writer.join()
    write("null", b"lost")
    return got, read("null"), [mode(n) for n in ("fifo", "null", "reg", "sock")], os.stat("null").st_rdev


# --- Files ----------------------------------------------------------------------


@case
def open_flags():
    write("f", b"12345"), os.symlink("f", "s"), os.mkdir("d")
    excl = outcome(os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    nofollow = outcome(os.open, "s", os.O_RDONLY | os.O_NOFOLLOW)
    fd = os.open("f", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"6"), os.pwrite(fd, b"7", 0)
    appended = read("f")
    os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
    path = os.open("f", os.O_PATH)
    return excl, nofollow, appended, os.stat("f").st_size, outcome(os.read, path, 1), \
        outcome(os.read, os.open("f", os.O_WRONLY), 1), outcome(os.write, os.open("f", os.O_RDONLY), b"x"), \
        os.fstat(path).st_ino == os.stat("s").st_ino, outcome(os.open, "f", os.O_RDONLY | os.O_NOATIME) != "EPERM"


@case
def tmpfile():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"from nowhere")
    before = os.listdir("."), os.fstat(fd).st_nlink
    sys_call(libc.linkat(-100, f"/proc/self/fd/{fd}".encode(), -100, b"named", AT_SYMLINK_FOLLOW))
    private = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    return before, read("named"), mode("named"), os.fstat(fd).st_nlink, \
        outcome(lambda: sys_call(libc.linkat(-100, f"/proc/self/fd/{private}".encode(), -100, b"x", AT_SYMLINK_FOLLOW)))


@case
def unlinked_but_open():
    write("f", b"before")
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    write("f", b"another")
    os.pwrite(fd, b"after!!", 0), os.ftruncate(fd, 5), os.fchmod(fd, 0o600)
    s = os.fstat(fd)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    return os.pread(fd, 100, 0), os.read(again, 100), s.st_size, s.st_nlink, oct(s.st_mode), read("f"), \
        os.path.exists("f"), outcome(os.utime, fd, (1, 1)), os.fstat(fd).st_mtime


@case
def renamed_over_but_open():
    write("old", b"old"), write("new", b"new")
    fd = os.open("old", os.O_RDWR)
    os.rename("new", "old")
    os.write(fd, b"OLD!")
    return os.pread(fd, 10, 0), read("old"), os.fstat(fd).st_nlink


@case
def sparse():
    fd = os.open("f", os.O_CREAT | os.O_RDWR, 0o644)
    os.pwrite(fd, b"x" * 65536, 1 << 20), os.pwrite(fd, b"y", (4 << 20) - 1)
    os.fsync(fd)
    size = os.fstat(fd).st_size
    first = os.lseek(fd, 0, os.SEEK_DATA)
    hole = os.lseek(fd, 1 << 20, os.SEEK_HOLE)
    after = outcome(os.lseek, fd, 4 << 20, os.SEEK_DATA)
    blocks = os.fstat(fd).st_blocks * 512
    return size, first, hole, after, blocks < (1 << 20), os.pread(fd, 4, (1 << 20) - 2), os.lseek(fd, 0, os.SEEK_END)


def fallocate(fd, how, offset, length):
    return sys_call(libc.fallocate(fd, how, ctypes.c_long(offset), ctypes.c_long(length)))


@case
def fallocate_modes():
    fd = os.open("f", os.O_CREAT | os.O_RDWR, 0o644)
    allocated = outcome(fallocate, fd, 0, 0, 1 << 20)
    size, blocks = os.fstat(fd).st_size, os.fstat(fd).st_blocks * 512 >= 1 << 20
    kept = outcome(fallocate, fd, 1, 0, 2 << 20), os.fstat(fd).st_size
    os.pwrite(fd, b"z" * 16384, 0)
    punched = outcome(fallocate, fd, 3, 4096, 4096), os.pread(fd, 1, 4095), os.pread(fd, 1, 4096), os.pread(fd, 1, 8192)
    zeroed = outcome(fallocate, fd, 0x10, 8192, 4096), os.pread(fd, 2, 12287), os.fstat(fd).st_size
    return allocated, size, blocks, kept, punched, zeroed, outcome(fallocate, fd, 0, -1, 5), outcome(fallocate, fd, 0, 0, 0)


@case
def copy_file_range():
    write("a", bytes(range(256)) * 1024)
    a, b = os.open("a", os.O_RDWR), os.open("b", os.O_CREAT | os.O_RDWR)
    copied = 0
    while n := os.copy_file_range(a, b, 200000 - copied, 100 + copied, 7 + copied):
        copied += n
    own = os.copy_file_range(a, a, 100, 0, 1000)
    return copied, read("b") == b"\0" * 7 + read("b")[7:], read("b")[7:] == (bytes(range(256)) * 1024)[100:200100], own, \
        os.copy_file_range(a, b, 10, 1 << 30, 0), os.sendfile(b, a, 0, 100)


@case
def truncate():
    write("f", b"0123456789")
    os.truncate("f", 4)
    short = read("f")
    os.truncate("f", 8)
    grown = read("f")
    fd = os.open("f", os.O_RDONLY)
    os.mkdir("d")
    return short, grown, outcome(os.ftruncate, fd, 1), outcome(os.truncate, "d", 0), outcome(os.truncate, "f", -1), \
        outcome(os.truncate, "none", 0), os.stat("f").st_size


@case
def mapped():
    write("f", b"\0" * 20000)
    fd = os.open("f", os.O_RDWR)
    with mmap.mmap(fd, 20000) as m:
        m[5000:5005] = b"hello"
        seen_by_read = os.pread(fd, 5, 5000)
        os.pwrite(fd, b"there", 9000)
        seen_by_map = m[9000:9005]
        m.flush()
        pid = os.fork()
        if pid == 0:
            m[100:103] = b"kid"
            os._exit(0)
        os.waitpid(pid, 0)
        from_child = m[100:103]
    private = mmap.mmap(fd, 20000, flags=mmap.MAP_PRIVATE)
    private[0:3] = b"own"
    return seen_by_read, seen_by_map, from_child, read("f")[:3], read("f")[5000:5005]


@case
def executed():
    write("script", b"#!/bin/sh\necho ran $1\n", 0o755)
    with open("/bin/true", "rb") as f:
        write("binary", f.read(), 0o755)
    plain = subprocess.run(["./script", "it"], stdout=subprocess.PIPE).stdout
    write("no", b"#!/bin/sh\n", 0o644)
    return plain, subprocess.run(["./binary"]).returncode, outcome(subprocess.run, ["./no"])


@case
def vectored_and_large_io():
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    parts = [bytes([i]) * (i * 37 + 1) for i in range(200)]
    os.pwritev(fd, parts, 12345)
    big = os.urandom(5 << 20)
    os.pwrite(fd, big, 1 << 20)
    buffers = [bytearray(len(p)) for p in parts]
    os.preadv(fd, buffers, 12345)
    return [bytes(b) for b in buffers] == parts, os.pread(fd, 5 << 20, 1 << 20) == big, os.pread(fd, 10, 100 << 20), \
        os.fstat(fd).st_size


@case
def sync_calls():
    fd = os.open("f", os.O_CREAT | os.O_RDWR | os.O_DSYNC)
    os.write(fd, b"x")
    d = os.open(".", os.O_RDONLY)
    return outcome(os.fsync, fd), outcome(os.fdatasync, fd), outcome(os.fsync, d), \
        outcome(lambda: sys_call(libc.syncfs(fd))), outcome(lambda: sys_call(libc.sync_file_range(fd, 0, 0, 7)))


@case
def file_system():
    v = os.statvfs(".")
    return v.f_namemax, v.f_bsize, v.f_blocks > 0, 0 < v.f_bfree <= v.f_blocks, v.f_files > 0, outcome(os.statvfs, "none")


@case
def ioctls():
    write("f")
    fd = os.open("f", os.O_RDONLY)
    return outcome(fcntl.ioctl, fd, 0xdead, b""), outcome(fcntl.ioctl, fd, 0x5401, b"\0" * 64)  # none, TCGETS


@case
def handles_and_statx():
    write("f", b"12345")
    with open("f", "r+b") as f:
        os.utime("f", ns=(1_500_000_000_123_456_789, 1_600_000_000_987_654_321))
        s = os.stat("f")
        born = subprocess.run(["stat", "-c", "%W", "f"], stdout=subprocess.PIPE).stdout
        return s.st_atime_ns, s.st_mtime_ns, s.st_blksize, s.st_blocks, int(born) > 0, f.read()


@case
def times():
    write("f"), os.mkdir("d")
    os.utime("f", (1, 2)), os.utime("d", (3, 4))
    old = os.stat("f").st_mtime, os.stat("d").st_mtime
    ctime = os.stat("f").st_ctime_ns
    time.sleep(0.02)
    os.chmod("f", 0o600)
    changed = os.stat("f").st_ctime_ns > ctime, os.stat("f").st_mtime
    write("d/x")
    moved = os.stat("d").st_mtime > 1000
    with open("f", "ab") as f:
        f.write(b"y")
    written = os.stat("f").st_mtime > 1000
    os.symlink("x", "s"), os.utime("s", (5, 6), follow_symlinks=False)
    now = outcome(os.utime, "f", None)
    return old, changed, moved, written, os.lstat("s").st_mtime, now, abs(os.stat("f").st_mtime - time.time()) < 10, \
        outcome(os.utime, "f", ns=(0, -1_000_000_000)), os.stat("f").st_mtime


# --- Owners, modes, rights ------------------------------------------------------


@case
def modes_and_umask():
    old = os.umask(0o027)
    write("f", mode=0o777), os.mkdir("d", 0o777), os.mknod("n", stat.S_IFREG | 0o666)
    os.umask(old)
    os.chmod("f", 0o7777), os.chmod("d", 0o1777)
    return mode("f"), mode("d"), mode("n"), outcome(os.chmod, "none", 0)


@case
def setuid_cleared_by_write():
    seen = []
    for what in (lambda fd: os.write(fd, b"x"), lambda fd: os.ftruncate(fd, 1), lambda fd: fallocate(fd, 0, 0, 100)):
        write("f", mode=0o777), os.chmod("f", 0o6777), os.chown("f", 1000, 1000), os.chmod("f", 0o6777)
        as_user(1001, 1001, [], lambda: what(os.open("f", os.O_RDWR)) and None)
        seen.append(mode("f"))
        os.unlink("f")
    return seen


@case
def setuid_cleared_by_chown():
    write("f", mode=0o755), os.chmod("f", 0o6755)
    os.chown("f", 1000, 1000)
    first = mode("f")
    write("g", mode=0o644), os.chmod("g", 0o2644)  # no group execute: setgid there is mandatory locking and stays
    os.chown("g", 1000, 1000)
    os.mkdir("d"), os.chmod("d", 0o6755)
    os.chown("d", 1000, 1000)
    return first, mode("g"), mode("d")


@case
def setgid_directory():
    os.mkdir("d"), os.chown("d", 0, 555), os.chmod("d", 0o2777)
    os.umask(0o022)
    os.mkdir("d/sub"), write("d/f")
    inside = as_user(1000, 1000, [], lambda: (os.mkdir("d/theirs"), write("d/their-file"),
                                              os.chmod("d/their-file", 0o2755))[0])
    return [(n, mode(f"d/{n}"), os.stat(f"d/{n}").st_uid, os.stat(f"d/{n}").st_gid) for n in sorted(os.listdir("d"))], inside


@case
def chmod_setgid_needs_group():
    write("f"), os.chown("f", 1000, 777)
    stranger = as_user(1000, 1000, [], os.chmod, "f", 0o2755), mode("f")
    os.chmod("f", 0o644)
    member = as_user(1000, 1000, [777], os.chmod, "f", 0o2755), mode("f")
    return stranger, member


@case
def permissions():
    write("f", mode=0o600), os.mkdir("closed", 0o700), write("closed/x"), os.mkdir("sticky"), os.chmod("sticky", 0o1777)
    write("sticky/root"), write("group", mode=0o060), os.chown("group", 0, 777), os.chmod(".", 0o755)
    return as_user(1000, 1000, [], read, "f"), as_user(1000, 1000, [], os.access, "closed/x", os.F_OK), \
        as_user(1000, 1000, [], os.unlink, "sticky/root"), as_user(1000, 1000, [777], read, "group"), \
        as_user(1000, 1000, [], read, "group"), as_user(1000, 1000, [], write, "new"), \
        as_user(1000, 1000, [], os.chown, "f", 1000, 1000), as_user(1000, 1000, [], os.chmod, "f", 0o777), \
        as_user(1000, 1000, [], os.listdir, "closed"), as_user(1000, 1000, [], os.utime, "f", None), \
        as_user(1000, 1000, [], os.access, "f", os.R_OK), os.access("f", os.X_OK), os.access("f", os.W_OK)


@case
def owner_of_new_files():
    os.mkdir("d"), os.chmod("d", 0o777)
    as_user(1234, 2345, [7], lambda: (write("d/f"), os.mkdir("d/d"), os.symlink("x", "d/s"), os.mkfifo("d/p"))[0])
    return [(n, os.lstat(f"d/{n}").st_uid, os.lstat(f"d/{n}").st_gid) for n in sorted(os.listdir("d"))]


@case
def chown_forms():
    write("f"), os.symlink("f", "s")
    os.chown("f", 11, -1), os.chown("f", -1, 22), os.lchown("s", 33, 44)
    write("mine"), os.chown("mine", 1000, 1000)
    return [(os.lstat(n).st_uid, os.lstat(n).st_gid) for n in "fs"], as_user(1000, 1000, [50], os.chown, "mine", -1, 50), \
        as_user(1000, 1000, [50], os.chown, "mine", -1, 60), as_user(1000, 1000, [], os.chown, "mine", 1001, -1), \
        (os.stat("mine").st_uid, os.stat("mine").st_gid)


@case
def capability_dropped_by_write():
    seen = []
    for what in ("write", "truncate", "chown"):
        with open("/bin/true", "rb") as f:
            write("f", f.read(), 0o777)
        subprocess.run(["setcap", "cap_net_raw+ep", "f"], check=True)
        before = outcome(os.getxattr, "f", "security.capability")
        if what == "write":
            with open("f", "r+b") as f:
                f.write(b"x")
        elif what == "truncate":
            os.truncate("f", 100)
        else:
            os.chown("f", 1000, 1000)
        seen.append((what, len(before), outcome(os.getxattr, "f", "security.capability")))
        os.unlink("f")
    return seen


# --- Extended attributes, ACLs --------------------------------------------------


@case
def xattrs():
    write("f"), os.mkdir("d"), os.symlink("f", "s")
    os.setxattr("f", "user.a", b"1"), os.setxattr("f", "user.b", b""), os.setxattr("f", "user.bin", bytes(range(256)))
    os.setxattr("d", "user.d", b"x" * 3000)
    result = [sorted(os.listxattr("f")), os.getxattr("f", "user.a"), os.getxattr("f", "user.bin") == bytes(range(256)),
              len(os.getxattr("d", "user.d")), outcome(os.getxattr, "f", "user.none"),
              outcome(os.setxattr, "f", "user.a", b"2", os.XATTR_CREATE),
              outcome(os.setxattr, "f", "user.c", b"2", os.XATTR_REPLACE),
              outcome(os.setxattr, "s", "user.a", b"2", follow_symlinks=False), outcome(os.setxattr, "f", "nospace.a", b""),
              outcome(os.setxattr, "f", "user." + "n" * 251, b""), outcome(os.setxattr, "f", "user.big", b"x" * 70000),
              as_user(1000, 1000, [], os.setxattr, "f", "user.a", b"3"),
              sorted(as_user(1000, 1000, [], os.listxattr, "f"))]
    os.setxattr("f", "user.a", b"longer than before", os.XATTR_REPLACE), os.removexattr("f", "user.b")
    return result, sorted(os.listxattr("f")), os.getxattr("f", "user.a"), outcome(os.removexattr, "f", "user.b")


@case
def trusted_xattrs():
    write("f")
    return outcome(os.setxattr, "f", "trusted.t", b"x"), as_user(1000, 1000, [], os.getxattr, "f", "trusted.t")


@case
def acls():
    def getfacl(path):
        text = subprocess.run(["getfacl", "-cpn", path], stdout=subprocess.PIPE, text=True).stdout
        return text.split()
    write("f", mode=0o640), os.mkdir("d"), os.chmod("d", 0o755)
    subprocess.run(["setfacl", "-m", "u:1000:rw,g:777:r", "f"], check=True)
    by_user = as_user(1000, 1000, [], read, "f"), as_user(1001, 1001, [777], read, "f"), as_user(1001, 1001, [], read, "f")
    set_on_file = getfacl("f"), mode("f")
    os.chmod("f", 0o600)  # the mask is the group's bits now: the entries count no longer
    masked = getfacl("f"), as_user(1000, 1000, [], read, "f")
    subprocess.run(["setfacl", "-d", "-m", "u:1000:rwx,g::rx,o::-", "d"], check=True)
    os.umask(0o077)  # does not count where there is a default ACL
    write("d/new", mode=0o666), os.mkdir("d/sub", 0o777)
    inherited = getfacl("d/new"), getfacl("d/sub"), mode("d/new"), mode("d/sub")
    subprocess.run(["setfacl", "-b", "f"], check=True)
    return by_user, set_on_file, masked, inherited, getfacl("f")


# --- Locks and concurrency ------------------------------------------------------


locked_elsewhere = in_child  # what another process gets when it tries the lock


@case
def bsd_locks():
    write("f")
    f = open("f", "r+b")
    again = lambda: fcntl.flock(open("f", "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    shared = lambda: fcntl.flock(open("f", "r+b"), fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(f, fcntl.LOCK_EX)
    exclusive = locked_elsewhere(again), locked_elsewhere(shared), outcome(again)
    fcntl.flock(f, fcntl.LOCK_SH)
    downgraded = locked_elsewhere(again), locked_elsewhere(shared)
    f.close()
    return exclusive, downgraded, locked_elsewhere(again)


@case
def posix_locks():
    write("f", b"x" * 100)
    f = open("f", "r+b")
    at = lambda start, n, how=fcntl.LOCK_EX: lambda: fcntl.lockf(open("f", "r+b"), how | fcntl.LOCK_NB, n, start)
    fcntl.lockf(f, fcntl.LOCK_EX, 10, 20)
    held = locked_elsewhere(at(0, 20)), locked_elsewhere(at(29, 1)), locked_elsewhere(at(30, 0)), locked_elsewhere(at(0, 0))
    query = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    kind, _, start, length, pid = struct.unpack(
        "hhqqi4x", in_child(lambda: fcntl.fcntl(open("f", "r+b"), fcntl.F_GETLK, query)))
    who = kind == fcntl.F_WRLCK, start, length, pid == os.getpid()
    fcntl.lockf(f, fcntl.LOCK_UN, 5, 20)
    split = locked_elsewhere(at(20, 5)), locked_elsewhere(at(25, 5))
    open("f").close()  # closing any descriptor of the file drops the process's locks
    return held, who, split, locked_elsewhere(at(0, 0))


@case
def waiting_for_a_lock():
    write("f")
    f = open("f", "r+b")
    fcntl.lockf(f, fcntl.LOCK_EX)
    pid = os.fork()
    if pid == 0:
        fcntl.lockf(open("f", "r+b"), fcntl.LOCK_EX)
        os._exit(7)
    time.sleep(0.5)
    waits = os.waitpid(pid, os.WNOHANG) == (0, 0)
    fcntl.lockf(f, fcntl.LOCK_UN)
    return waits, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@case
def appending_together():
    def append(n):
        with open("log", "ab", buffering=0) as f:
            for i in range(200):
                f.write(b"%d %d %s\n" % (n, i, b"." * (i % 50)))
    processes = [multiprocessing.Process(target=append, args=(n,)) for n in range(4)]
    [p.start() for p in processes], [p.join() for p in processes]
    lines = read("log").splitlines()
    return len(lines), len(set(lines)), [sum(1 for l in lines if l.startswith(b"%d " % n)) for n in range(4)]


@case
def storm():
    """Many processes that make, rename, link, list and remove in the same directories: nothing but the expected errors."""
    os.mkdir("s"), os.mkdir("s/a"), os.mkdir("s/b")
    fine = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY}

    def work(seed):
        bad = 0
        for i in range(120):
            k, a, b = (seed * 7919 + i * 104729) % 20, "ab"[i % 2], "ab"[(i + seed) % 2]
            steps = [lambda: write(f"s/{a}/{k}", b"%d" % k * 1000), lambda: os.rename(f"s/{a}/{k}", f"s/{b}/{k}"),
                     lambda: os.link(f"s/{b}/{k}", f"s/{a}/l{k}"), lambda: os.listdir(f"s/{a}"),
                     lambda: os.unlink(f"s/{a}/l{k}"), lambda: os.stat(f"s/{b}/{k}"), lambda: read(f"s/{b}/{k}"),
                     lambda: (os.mkdir(f"s/{a}/d{k}"), os.rmdir(f"s/{a}/d{k}")), lambda: os.unlink(f"s/{b}/{k}")]
            try:
                steps[(i + seed) % len(steps)]()
            except OSError as e:
                if e.errno not in fine:
                    bad += 1
                    print(f"storm: {e}", file=sys.stderr)
        return bad
    bad = [0] * 8
    workers = [threading.Thread(target=lambda n=n: bad.__setitem__(n, in_child(work, n))) for n in range(8)]
    [w.start() for w in workers], [w.join() for w in workers]
    whole = all(read(f"s/{d}/{n}") in (b"", n.lstrip("l").encode() * 1000) for d in "ab" for n in os.listdir(f"s/{d}"))
    return bad, whole, subprocess.run(["rm", "-r", "s"]).returncode


def main():
    top = sys.argv[1]
    os.makedirs(top)
    os.chmod(top, 0o755)
    for name in sys.argv[2:] or CASES:
        directory = os.path.join(top, name)
        os.mkdir(directory), os.chdir(directory)
        umask = os.umask(0o022)
        try:
            print(f"{name}: {CASES[name]()}", flush=True)
        except Exception as e:  # whatever went wrong is this case's result
            print(f"{name}: FAILED {type(e).__name__} {e}", flush=True)
        os.umask(umask)
        os.chdir("/")


if __name__ == "__main__":
    main()
