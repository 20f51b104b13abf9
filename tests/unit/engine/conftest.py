"""An engine on a toy model with its experts in this process: real mathematics, no network."""

import asyncio
import contextlib

import pytest
import torch

from glm5_engine.driver import Driver
from glm5_engine.engine import Engine
from glm5_engine.facts import Facts
from glm5_model.cache import PagedCache
from glm5_model.toy import write_toy
from glm5_spec.settings import WorkerSettings
from unit.engine.support import SIZES, LocalExperts, Toy


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    return Toy(write_toy(tmp_path_factory.mktemp("toy") / "toy", "5.2", **SIZES))


@pytest.fixture
async def make_engine(toy):
    """Start engines with settings; they end with the test, all pages free."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(start_fetch=None, **settings):
            fields = {"name": "w", "role": "decode", "model_path": "-", "cache_tokens": 4096} | settings
            worker = WorkerSettings(**fields)
            cache = PagedCache(toy.config, worker.cache_tokens // 64, torch.float32)
            experts = LocalExperts(toy.experts, toy.kernels)
            facts = Facts(292, toy.config.eos_token_ids, min(2048, worker.cache_tokens))
            engine = Engine(toy.transformer, cache, Driver(experts, "decode"), worker, facts, start_fetch)
            engine.experts = experts
            task = asyncio.create_task(engine.run())
            stack.push_async_callback(_end, engine, task)
            return engine

        yield make


async def _end(engine, task):
    try:
        assert engine.pages.num_used == 0
        assert engine.num_requests == 0
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        engine.close()
