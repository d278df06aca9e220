"""What crun's test suite uses of util-linux's Python binding, which Debian doesn't package: a table of mounts."""


class Mount:
    def __init__(self, line):
        fields = line.split()
        separator = fields.index("-")
        self.target = fields[4]
        self.vfs_options = fields[5]
        self.fs_options = fields[separator + 3]


class Table:
    """The mounts of a file in the format of /proc/self/mountinfo."""

    def __init__(self, path):
        with open(path) as mountinfo:
            self.mounts = [Mount(line) for line in mountinfo if " - " in line]

    def find_target(self, path):
        for mount in reversed(self.mounts):
            if mount.target == path:
                return mount
        return None
