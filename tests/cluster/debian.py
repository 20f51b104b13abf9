"""What this machine lacks, from Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess

from cluster import cache, shell
from cluster.errors import StepError

# The Docker engine with what it and kind call.
ENGINE = ("docker.io", "iptables", "iproute2", "procps")
COMPILER = ("gcc", "libc6-dev")


def install(*packages: str) -> None:
    """Install those of `packages` that are absent.

    Raises:
        StepError: this is no Debian, the user is not root, or a package cannot be had.
    """
    missing = absent(*packages)
    if not missing:
        return
    command = f"apt-get install {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise StepError("packages", "no apt-get here", f"install the equivalent of: {command}")
    if os.geteuid() != 0:
        raise StepError("packages", "only root can install", f"run as root: {command}")
    shell.say(f"packages: installing {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with cache.locked("packages"):
        shell.run("packages", ["apt-get", "update", "-q"], env=quiet)
        options = ["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
        shell.run("packages", ["apt-get", "install", *options, *missing], env=quiet)


def absent(*packages: str) -> list[str]:
    """Return those of `packages` that are not installed."""
    return [name for name in packages if not _is_installed(name)]


def _is_installed(package: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    try:
        return subprocess.run(query, capture_output=True, text=True).stdout == "installed"
    except FileNotFoundError:
        return False
