"""Artifacts appear whole or not at all, once per content of their inputs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cluster import cache
from cluster.errors import StepError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLM5_CLUSTER_CACHE", str(tmp_path))
    return tmp_path


def test_an_artifact_is_made_once_while_its_inputs_stay_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("one")
    made: list[str] = []

    def make(draft: Path) -> None:
        made.append(source.read_text())
        (draft / "result").write_text(source.read_text())

    first = cache.artifact("thing", [source], make)
    second = cache.artifact("thing", [source], make)
    source.write_text("two")
    third = cache.artifact("thing", [source], make)

    assert made == ["one", "two"]
    assert first == second
    assert (first / "result").read_text() == "one"
    assert (third / "result").read_text() == "two"


def test_a_failed_make_leaves_nothing(folder: Path) -> None:
    def make(draft: Path) -> None:
        (draft / "half").write_text("a half")
        raise StepError("thing", "no more", "none")

    with pytest.raises(StepError, match="no more"):
        cache.artifact("thing", ["input"], make)

    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["logs"]


def test_two_callers_at_once_make_it_once() -> None:
    made: list[int] = []
    both_started = threading.Barrier(2, timeout=60)

    def want() -> None:
        both_started.wait()
        cache.artifact("thing", ["input"], lambda draft: made.append(1))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert made == [1]


def test_the_digest_sees_names_contents_and_boundaries(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("x")
    before = cache.digest([tmp_path / "tree"])
    (tmp_path / "tree" / "a").rename(tmp_path / "tree" / "b")

    assert cache.digest([tmp_path / "tree"]) != before
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])
