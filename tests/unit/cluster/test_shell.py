"""A failed step names itself, the reason, the log and the cure."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import cache, shell
from cluster.errors import StepError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLM5_CLUSTER_CACHE", str(tmp_path))


def test_a_failing_command_is_reported_with_its_last_words_and_its_log() -> None:
    with pytest.raises(StepError) as failure:
        shell.run("paint", ["sh", "-c", "echo out of paint >&2; exit 3"], cure="buy paint")

    text = str(failure.value)
    assert "step 'paint' failed: exit code 3" in text
    assert "out of paint" in text
    assert f"log:  {cache.log_file('paint')}" in text
    assert "cure: buy paint" in text


def test_a_missing_program_is_named() -> None:
    with pytest.raises(StepError, match="install no-such-program"):
        shell.run("paint", ["no-such-program"])


def test_a_command_past_its_deadline_is_ended_with_its_children() -> None:
    seconds = f"1000.{random.randrange(10**9):09}"  # whose sleep it is

    with pytest.raises(StepError, match="not done after 2 s"):
        shell.run("paint", ["sh", "-c", f"sleep {seconds} & wait"], timeout_seconds=2)

    until = time.monotonic() + 60
    while any(seconds in words for words in command_lines()):
        assert time.monotonic() < until, "the child still runs"
        time.sleep(0.05)


def test_a_command_reads_the_given_file(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_text("red")

    shell.run("paint", ["sh", "-c", f"cat > {target}"], stdin=source)

    assert target.read_text() == "red"


def command_lines() -> Iterator[str]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone meanwhile
            yield " ".join(process.cmdline())
