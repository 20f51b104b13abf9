"""kind, built from its Go module; the node image takes kind's own files from the same version."""

from __future__ import annotations

from pathlib import Path

from cluster import gotool, shell

MODULE = "sigs.k8s.io/kind@v0.30.0"


def binary() -> Path:
    """Return kind, built if absent (about a minute).

    Raises:
        StepError: the build failed.
    """
    return gotool.install("kind", MODULE, "kind") / "kind"


def node_files() -> Path:
    """Return the folder with the files that kind's own node base image carries (entrypoint, units, settings)."""
    return gotool.module_folder("kind", MODULE) / "images" / "base" / "files"


def main() -> None:
    """Build it and say where it is."""
    shell.say(f"kind: {binary()}")
