"""Artifacts that are made once per content of their inputs and shared by every checkout on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import StepError

Input = str | Path


def root() -> Path:
    """Return the cache folder, made if absent; GLM5_CLUSTER_CACHE moves it."""
    home = os.environ.get("GLM5_CLUSTER_CACHE") or Path.home() / ".cache" / "glm5-serve" / "cluster"
    path = Path(home)
    (path / "logs").mkdir(parents=True, exist_ok=True)
    return path


def log_file(step: str) -> Path:
    """Return where the output of `step` is kept, newest at the end."""
    return root() / "logs" / f"{step.replace(' ', '-')}.log"


def digest(inputs: Iterable[Input]) -> str:
    """Return 16 hex digits over texts and over the names and contents of files and folders."""
    total = hashlib.sha256()
    for item in inputs:
        for part in _parts(item):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def artifact(name: str, inputs: Iterable[Input], make: Callable[[Path], None]) -> Path:
    """Return the folder of the artifact `name`; `make` fills a new one if these inputs were never seen.

    The folder appears whole or not at all, and two processes that want it make it once.

    Raises:
        StepError: `make` failed; nothing is left behind.
    """
    final = root() / f"{name}-{digest(inputs)}"
    if final.is_dir():
        return final
    with locked(name):
        if not final.is_dir():
            _make_whole(final, make)
    return final


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock `name`; it goes away with the process that holds it."""
    with (root() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_whole(final: Path, make: Callable[[Path], None]) -> None:
    draft = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        make(draft)
        draft.chmod(0o755)
        draft.rename(final)
    except OSError as error:
        raise StepError(final.name, str(error), f"free space in {final.parent} and run it again") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _parts(item: Input) -> Iterator[bytes]:
    if isinstance(item, str):
        yield item.encode()
    elif item.is_dir():
        for file in sorted(p for p in item.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            yield str(file.relative_to(item)).encode()
            yield file.read_bytes()
    else:
        yield item.name.encode()
        yield item.read_bytes()
