"""Wheels on this machine, so that the build of an image fetches nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluster import cache, shell

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("protos", "operator", "runtime", "pyproject.toml", "README.md", "LICENSE")
"""What the project's own wheel is made of."""
PIP = "pip==25.3"
"""Runs in the image from its wheel; the base image needs none."""


def dependencies(image: str, extras: str) -> Path:
    """Return the folder with the wheels of everything that glm5-serve[`extras`] needs, without itself.

    Raises:
        StepError: a dependency cannot be had.
    """
    settings = [REPOSITORY / "pyproject.toml", REPOSITORY / "constraints.txt"]

    def make(draft: Path) -> None:
        shell.say(f"images: fetching the wheels of {image}")
        _pip("wheel", "-c", str(settings[1]), *_find_links(), "-w", str(draft), f"{REPOSITORY}[{extras}]")
        for own in draft.glob("glm5_serve-*.whl"):
            own.unlink()

    return cache.artifact(f"wheels-{image}", [*settings, extras, *_find_links(), _python()], make)


def project() -> Path:
    """Return the folder with the project's own wheel, made of the sources as they are now."""

    def make(draft: Path) -> None:
        shell.say("images: building the project's wheel")
        _pip("wheel", "--no-deps", "-w", str(draft), str(REPOSITORY))

    return cache.artifact("wheel-glm5-serve", [*(REPOSITORY / name for name in SOURCES), _python()], make)


def pip() -> Path:
    """Return the folder with the wheel of pip."""
    return cache.artifact("wheel-pip", [PIP], lambda draft: _pip("download", "--no-deps", "-d", str(draft), PIP))


def _pip(*args: str) -> None:
    command = ["nice", "-n", "10", sys.executable, "-m", "pip", "--disable-pip-version-check", *args]
    shell.run("images", command, cure="read in the log which package could not be had or built")


def _find_links() -> list[str]:
    """Return pip's option for the folder of wheels that the Makefile names, if it names one."""
    folder = os.environ.get("WHEELS", "")
    return ["--find-links", str(Path(folder).resolve())] if folder else []


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
