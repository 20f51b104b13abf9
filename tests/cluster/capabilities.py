"""An OCI runtime for machines that withhold capabilities: runc, asked for none of those."""

from __future__ import annotations

import json
import sys
from pathlib import Path

NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
"""Capability names by their bit, as linux/capability.h numbers them."""

SCRIPT = """#!{python} -IS
# runc without the capabilities that this machine withholds; a request for one would fail every container.
import json, os, sys

WITHHELD = {withheld}


def drop(path, *keys):
    with open(path, "r+") as file:  # in place: the caller holds the file open
        request = part = json.load(file)
        for key in keys:
            part = part.get(key) or {{}}
        sets = part.get("capabilities") or {{}}
        for name, asked in sets.items():
            sets[name] = [one for one in asked or [] if one not in WITHHELD]
        file.seek(0)
        json.dump(request, file)
        file.truncate()


for flag, value in zip(sys.argv, sys.argv[1:]):
    if flag in ("--bundle", "-b"):
        drop(os.path.join(value, "config.json"), "process")
    elif flag in ("--process", "-p"):
        drop(value)
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


def missing(status: str) -> list[str]:
    """Return the capabilities outside the bounding set in the text of /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    granted = int(line.split()[1], 16)
    return [f"CAP_{name}" for bit, name in enumerate(NAMES) if not granted >> bit & 1]


def write_runtime(path: Path, withheld: list[str]) -> None:
    """Write the runtime that asks for none of `withheld` to `path`, executable."""
    path.write_text(SCRIPT.format(python=Path(sys.executable).resolve(), withheld=json.dumps(withheld)))
    path.chmod(0o755)
