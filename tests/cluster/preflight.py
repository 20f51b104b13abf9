"""Whether this machine can run the cluster at all: told at once, not after half an hour of other tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster import capabilities, debian, engine, shell
from cluster.errors import StepError

STEP = "able"
NEEDED = {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_CHROOT"}
LEAVE_OUT = "or leave the tests in the kind cluster out: make test KIND=no"


def main() -> None:
    """Say what the machine lacks.

    Raises:
        StepError: the cluster cannot be made here.
    """
    if engine.answers():
        return
    for reason, cure in lacking():
        raise StepError(STEP, f"no kind cluster can be made here: {reason}", f"{cure}; {LEAVE_OUT}")
    shell.say(f"{STEP}: an engine will be started here")


def lacking() -> list[tuple[str, str]]:
    """Return what a Docker engine would lack here, and what to do about it."""
    withheld = NEEDED & set(capabilities.missing(Path("/proc/self/status").read_text()))
    absent = debian.absent(*debian.ENGINE)
    found = [
        (os.geteuid() != 0, "no Docker engine answers and only root can start one", "run it as root or start Docker"),
        (withheld, f"the machine withholds {', '.join(sorted(withheld))}", "run it where containers may be privileged"),
        (not Path("/sys/fs/cgroup").is_dir(), "there are no cgroups", "mount them at /sys/fs/cgroup"),
        (
            absent and shutil.which("apt-get") is None,
            f"{', '.join(absent)} are not installed and there is no apt-get",
            "install them",
        ),
    ]
    return [(reason, cure) for lacks, reason, cure in found if lacks]
