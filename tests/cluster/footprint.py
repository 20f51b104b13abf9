"""What a Docker engine leaves on a machine: bridges, packet filter rules, folders; taken back where it is new."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster import shell

BRIDGES = re.compile(r"docker0|br-[0-9a-f]{12}")
CHAINS = re.compile(r"DOCKER(-\w+)*")
OURS = "/run/glm5-docker"
SHARED = ("/run/docker", "/run/containerd")
"""Folders that other engines use too: taken away where nothing is left in them."""
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
FILTERS = ("iptables", "ip6tables")
TABLES = ("filter", "nat")


@dataclass(frozen=True)
class Footprint:
    """What of that is there."""

    boot: str
    """Which life of the machine this is."""
    bridges: list[str]
    folders: list[str]
    forwarding: str
    rules: dict[str, list[str]]
    """"PROGRAM TABLE" to the lines of `PROGRAM -S`."""


def now() -> Footprint:
    """Look."""
    return Footprint(
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        bridges=[name for name in _bridges() if BRIDGES.fullmatch(name)],
        folders=[one for one in (OURS, *SHARED) if Path(one).exists()],
        forwarding=FORWARDING.read_text().strip(),
        rules={f"{program} {table}": _rules(program, table) for program in FILTERS for table in TABLES},
    )


def note(path: Path) -> None:
    """Write down what is there before an engine starts; an older note of this life of the machine stays."""
    found = now()
    before = read(path)
    if before is None or before.boot != found.boot:
        path.write_text(json.dumps(asdict(found)))


def read(path: Path) -> Footprint | None:
    """Return what was written down; None if nothing was."""
    try:
        return Footprint(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def remove_since(path: Path) -> None:
    """Take back what came after the note, once the engine has ended; without a note nothing is touched."""
    before = read(path)
    if before is None or before.boot != (found := now()).boot:
        return
    for command in commands(before, found):
        # Somebody else may have taken it away meanwhile.
        subprocess.run(command, capture_output=True, timeout=shell.MINUTE)
    _unmount(OURS)
    shutil.rmtree(OURS, ignore_errors=True)
    for folder in set(found.folders) - set(before.folders) - {OURS}:
        _remove_empty(Path(folder))
    FORWARDING.write_text(before.forwarding)
    path.unlink()


def commands(before: Footprint, found: Footprint) -> list[list[str]]:
    """Return what takes back bridges and rules that came between two looks: rules first, then what they name."""
    bridges = set(found.bridges) - set(before.bridges)
    done = []
    for key, lines in found.rules.items():
        done += _undo(key.split(), before.rules.get(key, []), lines, bridges)
    return done + [["ip", "link", "delete", name] for name in sorted(bridges)]


def _undo(where: list[str], before: list[str], found: list[str], bridges: set[str]) -> list[list[str]]:
    program, table = where
    call = [program, "-w", "-t", table]
    chains = [name for name in _chains(found) if name not in _chains(before) and CHAINS.fullmatch(name)]
    ours = [line for line in found if line.startswith("-A ") and _names(line, {*chains, *bridges})]
    policies = [line for line in before if line.startswith("-P ") and line not in found]
    return [
        *([*call, "-D", *shlex.split(line)[1:]] for line in ours if line not in before),
        *([*call, "-F", name] for name in chains),
        *([*call, "-X", name] for name in chains),
        *([*call, *shlex.split(line)] for line in policies if line.startswith("-P FORWARD ")),
    ]


def _names(line: str, names: Iterable[str]) -> bool:
    return not set(shlex.split(line)).isdisjoint(names)


def _chains(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines if line.startswith("-N ")]


def _bridges() -> list[str]:
    return [one.parent.name for one in Path("/sys/class/net").glob("*/bridge")]


def _rules(program: str, table: str) -> list[str]:
    """Return the rules of a table; none where the kernel has no such table, or where no program could set any."""
    if shutil.which(program) is None:
        return []
    done = subprocess.run([program, "-w", "-t", table, "-S"], capture_output=True, text=True, timeout=shell.MINUTE)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _remove_empty(folder: Path) -> None:
    """Remove a folder in which there is nothing but folders."""
    if not any(one.is_file() or one.is_socket() or one.is_fifo() for one in folder.rglob("*")):
        shutil.rmtree(folder, ignore_errors=True)


def _unmount(folder: str) -> None:
    """Take away mounts below a folder that an engine which was killed has left."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for one in sorted((one for one in mounts if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", one], capture_output=True, timeout=shell.MINUTE)
