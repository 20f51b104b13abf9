"""Run commands as named steps: output to a log, a deadline, and an error that says what to read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster import cache
from cluster.errors import StepError

MINUTE = 60.0
TAIL_LINES = 15


def say(text: str) -> None:
    """Tell the person who waits what happens now."""
    sys.stderr.write(f"[cluster] {text}\n")
    sys.stderr.flush()


def run(
    step: str,
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Path | None = None,
    timeout_seconds: float = 30 * MINUTE,
    cure: str = "read the log, mend the cause and run the same command again",
) -> None:
    """Run `argv` to its end with its output in the log of `step`.

    Args:
        step: the name a person sees, also the name of the log.
        argv: program and arguments.
        cwd: where to run it.
        env: variables on top of this process's own.
        stdin: the file that the program reads; nothing if absent.
        timeout_seconds: after this the program and its children are killed.
        cure: what to do if it fails.

    Raises:
        StepError: it could not start, did not end in time, or ended with another code than 0.
    """
    log = cache.log_file(step)
    began = time.monotonic()
    with log.open("ab") as out, (stdin or Path(os.devnull)).open("rb") as source:
        out.write(f"$ {' '.join(map(str, argv))}\n".encode())
        out.flush()
        code = _run_to_end(step, argv, cwd, env, source.fileno(), timeout_seconds, out.fileno(), log)
    if code != 0:
        reason = f"exit code {code} after {time.monotonic() - began:.0f} s\n{_tail(log)}"
        raise StepError(step, reason, cure, log)


def output(step: str, argv: Sequence[str | Path], *, timeout_seconds: float = MINUTE, stdin: str = "") -> str:
    """Return what `argv` prints.

    Raises:
        StepError: it could not start, did not end in time, or ended with another code than 0.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepError(step, str(error), "see that the program is installed and answers") from error
    if done.returncode != 0:
        reason = f"`{' '.join(map(str, argv))}` ended with code {done.returncode}: {done.stderr.strip()}"
        raise StepError(step, reason, "mend what the message names and run it again")
    return done.stdout


def _run_to_end(
    step: str,
    argv: Sequence[str | Path],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stdin: int,
    timeout_seconds: float,
    out: int,
    log: Path,
) -> int:
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise StepError(step, str(error), f"install {argv[0]}", log) from error
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise StepError(step, f"not done after {timeout_seconds:.0f} s", "read the log", log) from error
    finally:
        _end_group(process)
    return process.returncode


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what the command left, also when a person interrupts the wait."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    return "\n".join(f"  | {line}" for line in lines)
