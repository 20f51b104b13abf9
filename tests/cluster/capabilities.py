"""An OCI runtime for machines that withhold capabilities: runc, asked for none of those."""

from __future__ import annotations

import json
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

SCRIPT = """#!/bin/sh
# runc without the capabilities that this machine withholds; a request for one would fail every container.
set -eu
drop='{drop}'
without() {{ # FILE PATH: edit in place, since the caller holds the file open
    jq --argjson drop "$drop" "if $2 then $2 |= with_entries(.value -= \\$drop) else . end" "$1" > "$1.new"
    cat "$1.new" > "$1"
    rm "$1.new"
}}
previous=
for argument in "$@"; do
    case $previous in
    --bundle | -b) without "$argument/config.json" .process.capabilities ;;
    --process | -p) without "$argument" .capabilities ;;
    esac
    previous=$argument
done
exec runc "$@"
"""


def missing(status: str) -> list[str]:
    """Return the capabilities outside the bounding set in the text of /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    granted = int(line.split()[1], 16)
    return [f"CAP_{name}" for bit, name in enumerate(NAMES) if not granted >> bit & 1]


def write_runtime(path: Path, withheld: list[str]) -> None:
    """Write the runtime that asks for none of `withheld` to `path`, executable."""
    path.write_text(SCRIPT.format(drop=json.dumps(withheld)))
    path.chmod(0o755)
