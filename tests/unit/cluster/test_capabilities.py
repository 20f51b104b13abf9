"""The OCI runtime asks for no capability that the machine withholds, and changes nothing else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cluster import capabilities


def test_capabilities_outside_the_bounding_set_are_named() -> None:
    everything = (1 << len(capabilities.NAMES)) - 1
    without = everything & ~(1 << capabilities.NAMES.index("SYS_RESOURCE"))

    assert capabilities.missing(f"CapBnd:\t{without:016x}\n") == ["CAP_SYS_RESOURCE"]
    assert capabilities.missing(f"CapBnd:\t{everything:016x}\n") == []


@pytest.mark.parametrize(("flag", "nest"), [("--bundle", "process"), ("-b", "process"), ("--process", ""), ("-p", "")])
def test_the_runtime_drops_them_from_the_request_and_passes_the_rest_on(tmp_path: Path, flag: str, nest: str) -> None:
    runtime = tmp_path / "runtime"
    capabilities.write_runtime(runtime, ["CAP_SYS_RESOURCE"])
    request = tmp_path / "config.json"
    granted = {"capabilities": {"bounding": ["CAP_SYS_RESOURCE", "CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}}
    request.write_text(json.dumps({nest: granted} if nest else granted))
    inode = request.stat().st_ino
    write_runc(tmp_path)

    subject = str(tmp_path if nest else request)
    done = subprocess.run(
        [runtime, "create", flag, subject, "name"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads(request.read_text())
    left = {"capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}}
    assert found == ({nest: left} if nest else left)
    assert request.stat().st_ino == inode
    assert done.stdout.split() == ["create", flag, subject, "name"]


def write_runc(folder: Path) -> None:
    """Put a `runc` in front of the real one that only says how it was called."""
    runc = folder / "runc"
    runc.write_text('#!/bin/sh\necho "$@"\n')
    runc.chmod(0o755)
