"""The one error of this package: a step that failed, with its log and what to do about it."""

from __future__ import annotations

from pathlib import Path


class StepError(Exception):
    """A step did not succeed; the text names the step, the reason, the log and the cure."""

    def __init__(self, step: str, reason: str, cure: str, log: Path | None = None) -> None:
        where = f"\n  log:  {log}" if log else ""
        super().__init__(f"step '{step}' failed: {reason}{where}\n  cure: {cure}")
        self.step = step
        self.log = log
