"""One MoE layer's round trip: p50 and p99, split into compute, serialisation and wire.

One client, four shards in processes of their own, one row with eight experts (more with --rows), thread hops included.

    .venv/bin/python benchmarks/expert_layer.py [--model DIR] [--rows N] [--shards N] [--count N] [--unix]
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from glm5.v1 import peer_pb2
from glm5_model.config import ModelConfig
from glm5_model.exchange import Dispatch
from glm5_model.kernels import resolve_dtype
from glm5_model.toy import write_toy
from glm5_spec.settings import Discovery, RoleSettings
from glm5_wire.registry import PeerRegistry
from glm5_wire.tensors import link as links
from glm5_wire.tensors.experts import ExpertPool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a checkpoint; without one a random one is written, 256 experts of 1024 x 128")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--numerics", default="invariant")
    parser.add_argument("--unix", action="store_true", help="Unix sockets instead of TCP")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(arguments.model or Path(folder) / "model")
        if not arguments.model:
            write_toy(model, hidden_size=1024, moe_intermediate_size=128, num_dense_layers=1, num_sparse_layers=1)
        asyncio.run(_measure(arguments, model, Path(folder)))


async def _measure(arguments: argparse.Namespace, model: Path, folder: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        addresses = [_shard(arguments, model, folder, index, stack) for index in range(arguments.shards)]
        (folder / "peers.json").write_text(
            json.dumps({"peers": [{"role": "experts", "address": address} for address in addresses]})
        )
        settings = RoleSettings(
            role="decode", name="bench", discovery=Discovery(file=str(folder / "peers.json"), refresh_seconds=0.2)
        )
        registry = PeerRegistry(settings, peer_pb2.Peer, {peer_pb2.ROLE_EXPERTS})
        await registry.start()
        config = ModelConfig.from_dir(model)
        while len(registry.peers(peer_pb2.ROLE_EXPERTS)) < arguments.shards:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        compat = registry.peers(peer_pb2.ROLE_EXPERTS)[0].peer.compat
        dtype = resolve_dtype(arguments.dtype)
        pool = ExpertPool(registry, compat, config.hidden_size, dtype, 3.0, 30.0)
        while not pool.coverage(config)[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await _report(arguments, pool, config, dtype)
        await pool.close()
        await registry.stop()


def _shard(
    arguments: argparse.Namespace, model: Path, folder: Path, index: int, stack: contextlib.AsyncExitStack
) -> str:
    """Start a shard and return its address."""
    fields = {
        "role": "experts",
        "name": f"shard-{index}",
        "model_path": str(model),
        "shard": index,
        "num_shards": arguments.shards,
        "dtype": arguments.dtype,
        "numerics": arguments.numerics,
        "grpc_port": 29000 + index + os.getpid() % 1000,
        "drain_seconds": 0,
    }
    if arguments.unix:
        fields["socket_dir"] = str(folder)
    (folder / f"{index}.json").write_text(json.dumps(fields))
    command = [sys.executable, "-m", "glm5_experts", "--settings", str(folder / f"{index}.json")]
    process = subprocess.Popen(command, stderr=None)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return f"unix:{folder}/shard-{index}.sock" if arguments.unix else f"127.0.0.1:{fields['grpc_port']}"


async def _report(arguments: argparse.Namespace, pool: ExpertPool, config: ModelConfig, dtype: torch.dtype) -> None:
    """Run the round trips and print the table."""
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.rows, config.num_experts)
    clock = _Clock()
    clock.hook()
    for index in range(arguments.count + arguments.count // 10):
        if index == arguments.count // 10:  # warm
            clock.clear()
        layer = config.moe_layers[index % len(config.moe_layers)]
        ids = torch.rand(shape, generator=generator).topk(config.num_experts_per_tok).indices.sort().values
        rows = torch.randn(arguments.rows, config.hidden_size, generator=generator).to(dtype)
        dispatch = Dispatch(layer, rows, ids, torch.full(ids.shape, 1 / ids.shape[1]))
        start = time.perf_counter()
        pending = pool.send(dispatch, "decode")
        sent = time.perf_counter()
        await pool.collect(pending)
        clock.note(start, sent, time.perf_counter())
    clock.show(arguments)


class _Clock:
    """Splits round trips: what the slowest shard computed and queued, what the client spent on messages, the rest."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._rows: dict[str, list[float]] = {name: [] for name in ("total", "compute", "queue", "serialise", "wire")}
        self._compute = self._queue = self._parse = self._ours = 0.0

    def hook(self) -> None:
        """Time the reading of answers, and note what shards say of themselves."""
        took, clock = links.Link._took, self

        def timed(link: links.Link, data: bytes) -> bool:
            start = time.perf_counter()
            is_usual = took(link, data)
            read = time.perf_counter()
            result = links.pb.StreamResponse.FromString(data).result
            if result.compute_us + result.queue_us > clock._compute + clock._queue:
                clock._compute, clock._queue = result.compute_us, result.queue_us
            clock._parse += read - start
            clock._ours += time.perf_counter() - read
            return is_usual

        links.Link._took = timed  # type: ignore[method-assign]

    def note(self, start: float, sent: float, end: float) -> None:
        total = (end - start - self._ours) * 1e6
        serialise = (sent - start + self._parse) * 1e6
        parts = {"total": total, "compute": self._compute, "queue": self._queue, "serialise": serialise}
        for name, value in parts.items():
            self._rows[name].append(value)
        self._rows["wire"].append(total - self._compute - self._queue - serialise)
        if not self._compute:
            raise RuntimeError("no shard said how long it computed: the table would be wrong")
        self._compute = self._queue = self._parse = self._ours = 0.0

    def show(self, arguments: argparse.Namespace) -> None:
        print(
            f"{arguments.rows} row(s), {arguments.shards} shards, {'unix' if arguments.unix else 'tcp'}, microseconds"
        )
        for name, values in self._rows.items():
            low, middle, high = np.percentile(values, [50, 90, 99])
            print(f"  {name:10} p50 {low:8.0f}  p90 {middle:8.0f}  p99 {high:8.0f}")


if __name__ == "__main__":
    main()
