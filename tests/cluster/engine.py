"""The Docker engine: the machine's own where one answers, else one that is started here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from cluster import cache, capabilities, debian, footprint, shell
from cluster.errors import StepError

READY_SECONDS = 120.0
STOP_SECONDS = 60.0
LOG = "engine"


def ensure() -> None:
    """Return when an engine answers that can run privileged containers.

    Raises:
        StepError: it cannot be installed or started.
    """
    with cache.locked("engine"):
        if not answers():
            debian.install(*debian.ENGINE)
            if not answers():  # where systemd is, the package starts it
                _start()


def stop() -> None:
    """End the engine that `ensure` started, with all that it brought; one that was there before is left alone."""
    pid = _own_pid()
    if pid is not None:
        shell.say("engine: stopping")
        os.kill(pid, signal.SIGTERM)
        _wait_for(lambda: not Path(f"/proc/{pid}").exists(), STOP_SECONDS, "did not end after SIGTERM")
    if not answers():
        footprint.remove_since(_before())


def docker(step: str, *args: str | Path, cwd: Path | None = None) -> None:
    """Run a docker command with its output in the log of `step`."""
    # The classic builder: Debian's engine has no other, and it needs no plugin.
    shell.run(step, ["docker", *args], cwd=cwd, env={"DOCKER_BUILDKIT": "0"})


def has_image(tag: str) -> bool:
    """Return whether the engine has the image `tag`."""
    return subprocess.run(["docker", "image", "inspect", tag], capture_output=True).returncode == 0


def _start() -> None:
    shell.say("engine: starting dockerd")
    folder = cache.root() / "engine"
    folder.mkdir(exist_ok=True)
    _pid_file().unlink(missing_ok=True)
    footprint.note(_before())
    flags = ["--data-root", folder / "data", "--exec-root", footprint.OURS, "--pidfile", _pid_file()]
    with cache.log_file(LOG).open("wb") as log:
        process = subprocess.Popen(
            ["dockerd", *map(str, flags), *_runtime_flags(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _wait_for(lambda: answers() or process.poll() is not None, READY_SECONDS, "did not answer")
    if process.poll() is not None:
        raise _error(f"dockerd ended with code {process.returncode}")


def _runtime_flags(folder: Path) -> list[str]:
    withheld = capabilities.missing(Path("/proc/self/status").read_text())
    if not withheld:
        return []
    shell.say(f"engine: this machine withholds {', '.join(withheld)}; containers go without")
    runtime = folder / "runc-with-granted-capabilities"
    capabilities.write_runtime(runtime, withheld)
    return ["--add-runtime", f"granted={runtime}", "--default-runtime", "granted"]


def answers() -> bool:
    """Return whether an engine is there."""
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return False


def _own_pid() -> int | None:
    try:
        pid = int(_pid_file().read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" else None


def _pid_file() -> Path:
    return cache.root() / "engine" / "pid"


def _before() -> Path:
    """Return the note of what was there before the engine."""
    return cache.root() / "engine" / "before.json"


def _wait_for(holds: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise _error(f"dockerd {what} within {seconds:.0f} s")
        time.sleep(0.2)


def _error(reason: str) -> StepError:
    cure = "see that this is root on a machine that allows namespaces, cgroups and iptables, then run it again"
    return StepError("engine", reason, cure, cache.log_file(LOG))
