"""Processes that tests start, and that end with the test process however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The kernel kills a child (PDEATHSIG) when the *thread* that started it ends. This thread lives as long as the process.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

# Whoever asks for that signal after its parent has ended waits for ever: so it looks whose child it still is.
_IF_STILL_CHILD_OF = ["sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"']


class Process:
    """One running program with its output in a file."""

    def __init__(self, name: str, argv: Sequence[str | Path], log: Path, cwd: Path) -> None:
        self.name = name
        self.log = log
        self._popen = _spawner.submit(_spawn, argv, log, cwd).result()

    @property
    def pid(self) -> int:
        """The process id, valid while it runs."""
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process has ended."""
        self._popen.send_signal(number)

    def end(self, grace_seconds: float = 0.0) -> None:
        """End the process: SIGTERM and `grace_seconds` of patience, then SIGKILL."""
        if grace_seconds > 0:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        try:
            self._popen.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def tail(self, num_lines: int = 20) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-num_lines:])


def _spawn(argv: Sequence[str | Path], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *_IF_STILL_CHILD_OF, str(os.getpid()), *argv],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for the tests, not for this
            env={**os.environ, "GOMAXPROCS": "2"},
        )
