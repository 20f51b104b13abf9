"""Real shards behind the pool: the same bits as local experts, whatever happens to a shard."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glm5.v1 import peer_pb2
from glm5_model.checkpoint import load_experts
from glm5_model.config import ModelConfig
from glm5_model.exchange import Dispatch
from glm5_model.experts import ExpertWeights, combine
from glm5_model.kernels import kernels_for
from glm5_spec.settings import Discovery, RoleSettings
from glm5_wire.errors import Unavailable
from glm5_wire.registry import PeerRegistry
from glm5_wire.tensors.experts import ExpertPool
from support_roles import RoleProcess
from support_wire import until

DETECTION_SECONDS = 1.0


@dataclass
class Model:
    """The toy's experts in this process: what the shards have to agree with."""

    path: Path
    config: ModelConfig
    experts: ExpertWeights

    def dispatch(self, num_rows: int, seed: int, layer: int | None = None) -> Dispatch:
        generator = torch.Generator().manual_seed(seed)
        scores = torch.rand(num_rows, self.config.num_experts, generator=generator)
        ids = scores.topk(self.config.num_experts_per_tok).indices.sort().values
        rows = torch.randn(num_rows, self.config.hidden_size, generator=generator)
        return Dispatch(layer or self.config.moe_layers[0], rows, ids, torch.rand(ids.shape, generator=generator))

    def wanted(self, dispatch: Dispatch) -> Tensor:
        n, k = dispatch.expert_ids.shape
        pair_rows = torch.arange(n).repeat_interleave(k)
        kernels = kernels_for("cpu", "invariant", torch.float32)
        outputs = self.experts.product(
            dispatch.layer, dispatch.rows, pair_rows, dispatch.expert_ids.reshape(-1), kernels
        )
        return combine(outputs.view(n, k, self.config.hidden_size), dispatch.gates)


@pytest.fixture(scope="module")
def model(toy: Path) -> Model:
    torch.set_num_threads(1)
    config = ModelConfig.from_dir(toy)
    return Model(toy, config, load_experts(toy, range(config.num_experts), torch.float32))


class Shards:
    """Shard processes of one model."""

    def __init__(self, folder: Path, model: Model) -> None:
        self._folder, self.model = folder, model
        self.processes: list[RoleProcess] = []

    def make(self, shard: int, num_shards: int, group: int = 0, **fields: Any) -> RoleProcess:
        process = RoleProcess(
            self._folder,
            role="experts",
            name=f"shard-{group}-{shard}",
            shard=shard,
            num_shards=num_shards,
            group=group,
            **(
                {"model_path": str(self.model.path), "dtype": "float32", "detection_seconds": DETECTION_SECONDS}
                | fields
            ),
        )
        self.processes.append(process)
        return process.start()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


@pytest.fixture
def shards(tmp_path: Path, model: Model) -> Iterator[Shards]:
    """No shard yet; a test makes its own."""
    made = Shards(tmp_path, model)
    yield made
    made.kill()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Shards]:
    """Two shards that hold everything; tests leave them alive."""
    made = Shards(tmp_path_factory.mktemp("pair"), model)
    made.make(0, 2)
    made.make(1, 2)
    yield made
    made.kill()


@asynccontextmanager
async def pool_of(
    shards: Shards, folder: Path, timeout_seconds: float = 60.0, compat: str = "", only: int | None = None
) -> AsyncIterator[ExpertPool]:
    """Yield a pool that knows the first `only` shards, by default all."""
    processes = shards.processes[:only]
    for process in processes:
        process.wait_ready()
    peers = [{"role": "experts", "address": process.address} for process in processes]
    (folder / "peers.json").write_text(json.dumps({"peers": peers}))
    discovery = Discovery(file=str(folder / "peers.json"), refresh_seconds=0.2)
    settings = RoleSettings(role="decode", name="test", discovery=discovery, detection_seconds=DETECTION_SECONDS)
    registry = PeerRegistry(settings, peer_pb2.Peer, {peer_pb2.ROLE_EXPERTS})
    await registry.start()
    await until(lambda: len(registry.peers(peer_pb2.ROLE_EXPERTS)) == len(processes), registry.all_peers)
    compat = compat or registry.peers(peer_pb2.ROLE_EXPERTS)[0].peer.compat
    hidden = shards.model.config.hidden_size
    pool = ExpertPool(registry, compat, hidden, torch.float32, DETECTION_SECONDS, timeout_seconds, name="test")
    try:
        yield pool
    finally:
        await pool.close()
        await registry.stop()


async def covered(pool: ExpertPool, model: Model) -> None:
    await until(lambda: pool.coverage(model.config)[0], lambda: pool.coverage(model.config))


async def ask(pool: ExpertPool, dispatch: Dispatch, lane: str = "decode") -> Tensor:
    return await pool.collect(pool.send(dispatch, lane))


async def require_bits(pool: ExpertPool, model: Model) -> None:
    for lane, num_rows in (("decode", 1), ("decode", 7), ("prefill", 300), ("decode", 0), ("prefill", 1500)):
        for layer in (model.config.moe_layers[0], model.config.moe_layers[-1]):
            dispatch = model.dispatch(num_rows, num_rows, layer)
            assert torch.equal(await ask(pool, dispatch, lane), model.wanted(dispatch)), (lane, num_rows, layer)


async def test_two_shards_give_the_bits_of_local_experts(pair: Shards, model: Model, tmp_path: Path) -> None:
    async with pool_of(pair, tmp_path) as pool:
        await covered(pool, model)
        await require_bits(pool, model)


async def test_four_shards_give_the_bits_of_local_experts(shards: Shards, model: Model, tmp_path: Path) -> None:
    for shard in range(4):
        shards.make(shard, 4)
    async with pool_of(shards, tmp_path) as pool:
        await covered(pool, model)
        await require_bits(pool, model)


async def test_many_dispatches_at_once_are_coalesced_and_stay_apart(pair: Shards, model: Model, tmp_path: Path) -> None:
    async with pool_of(pair, tmp_path) as pool:
        await covered(pool, model)
        dispatches = [model.dispatch(1 + seed % 5, seed) for seed in range(60)]
        lanes = ["decode" if seed % 3 else "prefill" for seed in range(60)]
        sent = [pool.send(dispatch, lane) for dispatch, lane in zip(dispatches, lanes, strict=True)]
        answers = await asyncio.gather(*(pool.collect(pending) for pending in sent))
        for dispatch, answer in zip(dispatches, answers, strict=True):
            assert torch.equal(answer, model.wanted(dispatch))
    page = pair.processes[0].page("/metrics").text
    assert samples(page, "glm5_experts_product_batches_sum") > samples(page, "glm5_experts_product_batches_count")


def samples(page: str, name: str) -> float:
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


async def test_a_dispatch_that_nobody_collects_leaves_nothing_behind(
    pair: Shards, model: Model, tmp_path: Path
) -> None:
    async with pool_of(pair, tmp_path) as pool:
        await covered(pool, model)
        for seed in range(50):
            waiting = asyncio.create_task(ask(pool, model.dispatch(4, seed)))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        dispatch = model.dispatch(4, 99)
        assert torch.equal(await ask(pool, dispatch), model.wanted(dispatch))
        await until(lambda: pair.processes[0].state()["in_flight"] == 0)


async def test_a_missing_shard_is_a_retriable_error_within_the_timeout(
    pair: Shards, model: Model, tmp_path: Path
) -> None:
    async with pool_of(pair, tmp_path, timeout_seconds=1.0, only=1) as pool:
        await until(lambda: pool.shard_names() == ["shard-0-0"], pool.shard_names)
        with pytest.raises(Unavailable, match=r"no answer for 1 s, nobody holds experts 128-") as caught:
            await ask(pool, model.dispatch(4, 1))
        assert caught.value.retriable


async def test_shards_of_another_compat_are_not_used(pair: Shards, model: Model, tmp_path: Path) -> None:
    async with pool_of(pair, tmp_path, timeout_seconds=1.0, compat="0123456789abcdef") as pool:
        assert not pool.coverage(model.config)[0]
        with pytest.raises(Unavailable):
            await ask(pool, model.dispatch(1, 1))


async def test_rows_of_a_lost_shard_are_computed_when_it_is_back(pair: Shards, model: Model, tmp_path: Path) -> None:
    first = pair.processes[0]
    async with pool_of(pair, tmp_path, timeout_seconds=200.0) as pool:
        for number, how in enumerate([signal.SIGSTOP, signal.SIGKILL]):
            await covered(pool, model)
            first.send(how)
            dispatch = model.dispatch(3, number)
            waiting = asyncio.create_task(ask(pool, dispatch))
            await until(lambda: not pool.coverage(model.config)[0])
            assert "experts 0-127 of layers" in pool.coverage(model.config)[1]
            assert not waiting.done()
            if how == signal.SIGKILL:
                first.wait()
                first.start()
            else:
                first.send(signal.SIGCONT)
            assert torch.equal(await waiting, model.wanted(dispatch)), how


async def test_another_group_takes_over_the_rows_of_a_lost_shard(shards: Shards, model: Model, tmp_path: Path) -> None:
    first, second = shards.make(0, 1, 0), shards.make(0, 1, 1)
    async with pool_of(shards, tmp_path) as pool:
        await covered(pool, model)
        # SIGTERM last: the process ends by itself, and is not started again.
        for how in (signal.SIGSTOP, signal.SIGTERM):
            await until(lambda: len(pool.shard_names()) == 2, pool.shard_names)
            for seed in range(40):
                if seed == 20:
                    first.send(how)
                dispatch = model.dispatch(2, seed)
                assert torch.equal(await ask(pool, dispatch), model.wanted(dispatch)), (how, seed)
            await until(lambda: pool.shard_names() == [second.name], pool.shard_names)
            if how == signal.SIGSTOP:
                first.send(signal.SIGCONT)
        assert await asyncio.to_thread(first.wait) == 0


def test_a_damaged_checkpoint_ends_the_process_with_one_line(shards: Shards, tmp_path: Path) -> None:
    process = shards.make(0, 1, model_path=str(tmp_path / "nowhere"))
    assert process.wait(240) == 2
    lines = [line for line in process.log.splitlines() if line.startswith("glm5: ")]
    assert len(lines) == 1
    assert "config.json" in lines[0]
    assert "Traceback" not in process.log


def test_an_index_outside_the_group_is_refused_with_the_cure(shards: Shards) -> None:
    process = shards.make(4, 4)
    assert process.wait(240) == 2
    assert "shard 4 of 4: the index must be 0 to 3; check experts.shards" in process.log
