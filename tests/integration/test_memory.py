"""Each role reads its part of a checkpoint and nothing else: bytes read and memory held, on 400 M parameters."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support_roles import RoleProcess, free_port
from support_stack import Stack, running_stack

ROOT = Path(__file__).parents[2]
SHARDS = 8
SLACK = 1.05


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 400 M checkpoint of the benchmarks, bf16."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); import checkpoint, pathlib;"
    folder = tmp_path_factory.mktemp("bench")
    subprocess.run(
        [sys.executable, "-c", code + f"checkpoint.bench_checkpoint(pathlib.Path({str(folder)!r}))"], check=True
    )
    return folder / "glm5-bench"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Stack]:
    options = ("--experts", str(SHARDS), "--decode", "1", "--dtype", "bfloat16")
    with running_stack(tmp_path_factory.mktemp("memory"), checkpoint, *options) as running:
        yield running


def tensor_bytes(checkpoint: Path, routed: bool) -> int:
    """Return the bytes of the routed experts, or of everything else, by the headers of the files."""
    total = 0
    for path in checkpoint.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__" and (".mlp.experts." in name) == routed:
                total += entry["data_offsets"][1] - entry["data_offsets"][0]
    return total


@pytest.fixture(scope="module")
def empty_shard(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, stack: Stack) -> tuple[int, int]:
    """(bytes read, bytes of memory) of a shard without its experts: shard 0 of 256 holds one a layer, taken off."""
    settings = json.loads((stack._run_dir / "experts-0.json").read_text())
    settings |= {"name": "small", "shard": 0, "num_shards": 256, "grpc_port": free_port(), "admin_port": free_port()}
    small = RoleProcess(tmp_path_factory.mktemp("small"), **settings).start()
    try:
        small.wait_ready()
        assert small.process is not None
        read, held = usage(small.process.pid)
        own = tensor_bytes(checkpoint, routed=True) // 256
        return read - own, held - own
    finally:
        small.kill()


def usage(pid: int) -> tuple[int, int]:
    """Return (bytes read by system calls, resident bytes)."""
    process = psutil.Process(pid)
    return process.io_counters().read_chars, process.memory_info().rss


def test_a_shard_reads_and_holds_its_eighth(stack: Stack, checkpoint: Path, empty_shard: tuple[int, int]) -> None:
    limit = tensor_bytes(checkpoint, routed=True) / SHARDS * SLACK
    for shard in range(SHARDS):
        read, held = usage(stack.row(f"experts-{shard}")["pid"])
        print(f"experts-{shard}: read {read - empty_shard[0]:,} held {held - empty_shard[1]:,} of {limit:,.0f}")
        assert read - empty_shard[0] <= limit
        assert held - empty_shard[1] <= limit + (16 << 20), "16 MiB for what any process takes while it serves"


@pytest.mark.parametrize("worker", ["prefill-0", "decode-0"])
def test_an_attention_worker_reads_no_expert(stack: Stack, checkpoint: Path, empty_shard: tuple, worker: str) -> None:
    read, _ = usage(stack.row(worker)["pid"])
    rest = tensor_bytes(checkpoint, routed=False)
    experts = tensor_bytes(checkpoint, routed=True)
    print(f"{worker}: read {read - empty_shard[0]:,}; all but the experts is {rest:,}, the experts are {experts:,}")
    assert read - empty_shard[0] <= rest * SLACK + (4 << 20), "4 MiB for Python modules that a shard does not import"
    assert rest * SLACK + (4 << 20) < experts / 10
