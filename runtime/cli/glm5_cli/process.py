"""One supervised process: started, its lines passed on, restarted with backoff when it dies, stopped."""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from glm5_cli.layout import Unit

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
HEALTHY_SECONDS = 5.0
"""A process that lived so long had started in earnest: it is restarted with the first pause again."""
FATAL_EXIT = 2
"""A role ends with this code where a restart cannot help: wrong settings, damaged checkpoint."""
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Ask the kernel to end this process when the supervisor dies without a goodbye."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class SupervisedProcess:
    """A role's process. `run` returns only when it was stopped, or when a restart cannot help."""

    def __init__(self, unit: Unit, settings: Path, write: Callable[[str, str], None]) -> None:
        """`write(name, line)` receives each line that the process prints."""
        self.unit = unit
        self.restarts = 0
        self.failure = ""
        self._settings = settings
        self._write = write
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._last_line = ""

    @property
    def pid(self) -> int:
        """Return the process id, 0 where none runs."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def run(self) -> None:
        """Keep the process alive until `stop`; sets `failure` where it gives up."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if code == FATAL_EXIT:
                self.failure = f"{self.unit.name}: {self._last_line or 'ended with exit code 2'}"
                return
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - began > HEALTHY_SECONDS else pause
            self._write("glm5", f"{self.unit.name} ended ({_exit_text(code)}); starting it again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            self.restarts += 1
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _run_once(self) -> int:
        """Start the process, pass its lines on, return its exit code."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"glm5_{self.unit.role}", "--settings", str(self._settings)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # An own session: Ctrl-C reaches the supervisor alone, which then stops the roles in order.
            start_new_session=True,
            preexec_fn=_die_with_parent,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            limit=1 << 20,
        )
        assert self._process.stdout is not None
        while line := await self._read_line(self._process.stdout):
            self._last_line = line.decode(errors="replace").rstrip()
            self._write(self.unit.name, self._last_line)
        return await self._process.wait()

    async def _read_line(self, stream: asyncio.StreamReader) -> bytes:
        """Return the next line, or what there is of one that is too long."""
        try:
            return await stream.readline()
        except ValueError:
            return await stream.read(1 << 16)

    async def stop(self, grace_seconds: float) -> None:
        """End the process: SIGTERM, and SIGKILL after `grace_seconds`."""
        self._stopping.set()
        if not (process := self._process) or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(process.wait(), grace_seconds)
        except TimeoutError:
            self._write("glm5", f"{self.unit.name} did not end in {grace_seconds:.0f} s; killing it")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _exit_text(code: int) -> str:
    """Return words for an exit code."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
