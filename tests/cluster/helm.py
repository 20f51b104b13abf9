"""Helm, built from its Go module."""

from __future__ import annotations

from pathlib import Path

from cluster import gotool, shell

VERSION = "v3.19.4"


def binary() -> Path:
    """Return helm, built if absent (2-3 minutes).

    Raises:
        StepError: the build failed.
    """
    ldflags = f"-s -w -X helm.sh/helm/v3/internal/version.version={VERSION}"
    return gotool.install("helm", f"helm.sh/helm/v3/cmd/helm@{VERSION}", "helm", ldflags) / "helm"


def main() -> None:
    """Build it and say where it is."""
    shell.say(f"helm: {binary()}")
