"""Computes one sequence on a second device and on the CPU, and compares the bits. Run by test_device.py."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glm5.v1.expert_service_pb2 import StreamResponse
from glm5_engine.driver import Driver
from glm5_engine.loaded import Loaded
from glm5_engine.loaded import load as load_worker
from glm5_engine.transfer import Cutter, Receiver
from glm5_experts.loaded import Loaded as LoadedShard
from glm5_experts.loaded import load as load_shard
from glm5_experts.product import Products
from glm5_experts.work import Arrays
from glm5_model.batch import Batch, SequenceRows
from glm5_model.exchange import Dispatch
from glm5_model.experts import combine
from glm5_model.kernels import choose
from glm5_spec.settings import Device, ShardSettings, WorkerSettings
from glm5_wire.tensors.codec import from_proto
from support_device import OtherTensor, register
from support_work import work

LENGTH = 100
TABLE = torch.tensor([2, 0])


class OneShard:
    """Experts that answer as a shard does, without the wire."""

    def __init__(self, shard: LoadedShard) -> None:
        self.shard = shard

    def send(self, dispatch: Dispatch, lane: str, traceparent: str = "") -> Dispatch:
        """Return what `collect` takes."""
        return dispatch

    async def collect(self, pending: Dispatch) -> Tensor:
        """Return the routed sum, on the CPU like everything that came by the wire."""
        rows, k = pending.expert_ids.shape
        arrays = Arrays(pending.rows, np.arange(rows).repeat(k), pending.gates.numpy().reshape(-1))
        experts = pending.expert_ids.numpy().reshape(-1)
        batch = work(1, layer=pending.layer, num_rows=rows, read=lambda: arrays, pair_experts=experts)
        [answer] = Products(self.shard.weights, self.shard.kernels).compute([batch], 0.0).answers
        result = StreamResponse.FromString(answer).result
        return combine(from_proto(result.rows).view(rows, k, -1), pending.gates)


def loaded(path: Path, device: Device) -> tuple[Loaded, LoadedShard]:
    """Return a worker's part and a shard's part on `device`."""
    common = {"model_path": str(path), "device": device, "dtype": "float32"}
    worker = WorkerSettings(name="w", role="decode", cache_tokens=256, **common)
    shard = ShardSettings(name="s", role="experts", shard=0, num_shards=1, **common)
    silent: Callable[[float], None] = lambda share: None  # noqa: E731
    return load_worker(worker, silent), load_shard(shard, silent)


async def logits(worker: Loaded, shard: LoadedShard) -> Tensor:
    """Return the logits of a sequence in three chunks, whose cache moves to other pages between them."""
    driver = Driver(OneShard(shard), "decode")
    ids = torch.randint(0, 256, (LENGTH,), generator=torch.Generator().manual_seed(1))
    parts = []
    for start, end in ((0, 70), (70, 99), (99, LENGTH)):
        batch = Batch([SequenceRows(ids[start:end], start, TABLE, "all")])
        parts.append(await driver.run(worker.transformer.forward(batch, worker.cache), end - start))
        hand_over(worker, end)
    driver.close()
    return torch.cat(parts)


def hand_over(worker: Loaded, end: int) -> None:
    """Send the rows so far as chunks, wipe the pages, and take the chunks in again."""
    cutter = Cutter(worker.cache)
    chunks = [message.chunk for message in cutter.cut(TABLE, 0, end)]
    for entry in worker.cache.entries:
        worker.cache.write(entry, worker.cache.slots(TABLE, 0, end), torch.zeros(end, entry.width))
    receiver = Receiver(worker.cache, 0, "here")
    for chunk in chunks:
        receiver.take(chunk, TABLE)
    assert receiver.cached == end


def main(path: Path) -> None:
    """Compare, and fail where anything differs."""
    torch.set_num_threads(1)
    choose.library = lambda: None  # the compiled kernels are the CPU's alone and have bits of their own
    register()
    wanted = asyncio.run(logits(*loaded(path, "cpu")))
    worker, shard = loaded(path, "npu")
    embedding, latent = worker.transformer.weights.embedding, worker.cache.latent(0)
    assert all(isinstance(tensor, OtherTensor) for tensor in (embedding, latent)), "nothing lies on the device"
    got = asyncio.run(logits(worker, shard))
    assert type(got) is Tensor
    assert torch.equal(got, wanted), (got - wanted).abs().max()
    print(f"equal logits={list(got.shape)} device={worker.kernels.device} shard={shard.kernels.device}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
