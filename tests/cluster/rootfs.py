"""Debian root file systems as tar files: what node, control-plane and product images stand on."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cluster import cache, debian, shell

SUITE = "bookworm"
FRESH_DAYS = 30
"""A file system older than this is made anew, so that security updates arrive."""
UNWANTED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")

NODE_PACKAGES = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "containerd",
    "runc",
    "iptables",
    "nftables",
    "iproute2",
    "conntrack",
    "ethtool",
    "socat",
    "kmod",
    "jq",
    "mount",
    "util-linux",
    "procps",
    "hostname",
    "ca-certificates",
    "containernetworking-plugins",
]
# libstdc++6: grpc and torch wheels link to it.
PYTHON_PACKAGES = ("python3", "python3-distutils", "ca-certificates", "libstdc++6")
# kube-proxy calls these; extracted only, no package script runs.
NETFILTER_PACKAGES = ("iptables", "nftables", "conntrack", "netbase")


def node() -> Path:
    """Return the tar of a systemd machine with containerd."""
    return _tar("node-rootfs", "minbase", NODE_PACKAGES)


def python() -> Path:
    """Return the tar of a small system with Python and no package manager."""
    return _tar("python-rootfs", "essential", PYTHON_PACKAGES)


def netfilter() -> Path:
    """Return the tar of iptables and nftables with the libraries they need."""
    return _tar("netfilter-rootfs", "extract", NETFILTER_PACKAGES)


def _tar(step: str, variant: str, packages: Sequence[str]) -> Path:
    options = [f"--variant={variant}", f"--include={','.join(packages)}"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in UNWANTED]

    def make(draft: Path) -> None:
        debian.install("mmdebstrap")
        shell.say(f"{step}: making a Debian root file system (1-2 minutes)")
        command = ["nice", "-n", "10", "mmdebstrap", "--mode=root", *options, SUITE, str(draft / "root.tar")]
        shell.run(step, command, cure="see in the log which package or mirror failed; it needs Debian's packages")

    period = datetime.date.today().toordinal() // FRESH_DAYS
    return cache.artifact(step, [*options, SUITE, str(period)], make) / "root.tar"
