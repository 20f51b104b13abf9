"""A toy model with its experts in this process, and a client that collects events."""

import asyncio

import torch

from glm5_engine.events import Failed, Finished, Token
from glm5_engine.request import ChoiceSpec, Request
from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PagedCache
from glm5_model.checkpoint import load_attention, load_experts
from glm5_model.config import ModelConfig
from glm5_model.kernels import kernels_for
from glm5_model.local import routed_sum, run_local
from glm5_model.transformer import Transformer
from glm5_spec.sampling import SamplingParams

SIZES = {"num_dense_layers": 1, "num_sparse_layers": 2, "n_routed_experts": 16, "num_experts_per_tok": 4}
WAIT_SECONDS = 240


class LocalExperts:
    """Experts in this process, as the driver sees them; `fault` may raise or wait before an answer."""

    def __init__(self, weights, kernels):
        self.weights, self.kernels = weights, kernels
        self.fault = None
        self.num_sent = 0

    def send(self, dispatch, lane, traceparent=""):
        self.num_sent += 1
        return dispatch

    async def collect(self, pending):
        await asyncio.sleep(0)
        if self.fault is not None:
            await self.fault(pending)
        return routed_sum(pending, self.weights, self.kernels)


class Toy:
    """A toy checkpoint in memory."""

    def __init__(self, path):
        torch.set_num_threads(1)
        self.config = ModelConfig.from_dir(path)
        self.kernels = kernels_for("cpu", "invariant", torch.float32)
        self.transformer = Transformer(self.config, load_attention(path, torch.float32), self.kernels)
        self.experts = load_experts(path, range(self.config.num_experts), torch.float32)

    def logits(self, tokens):
        """Return the logits of every row, computed in one pass without an engine."""
        cache = PagedCache(self.config, -(-len(tokens) // 64), torch.float32)
        rows = SequenceRows(torch.tensor(tokens), 0, torch.arange(cache.num_pages), "all")
        return run_local(self.transformer.forward(Batch([rows]), cache), self.experts, self.kernels)

    def greedy(self, prompt, count, stop_ids=()):
        """Return the tokens that greedy decoding gives, computed row by row without an engine."""
        cache = PagedCache(self.config, -(-(len(prompt) + count) // 64), torch.float32)
        table, tokens, new, start = torch.arange(cache.num_pages), [], list(prompt), 0
        while len(tokens) < count:
            batch = Batch([SequenceRows(torch.tensor(new), start, table, "last")])
            logits = run_local(self.transformer.forward(batch, cache), self.experts, self.kernels)
            start += len(new)
            new = [int(logits[0].argmax())]
            if new[0] in stop_ids:
                break
            tokens += new
        return tokens


class Client:
    """Collects the events of one request."""

    def __init__(self, prompt, n=1, key="", outputs=None, prompt_logprobs=None, **params):
        params = {"temperature": 0.0, "max_tokens": 16, "ignore_eos": True} | params
        specs = [ChoiceSpec(i, SamplingParams(**params), tuple((outputs or {}).get(i, ()))) for i in range(n)]
        self.events = []
        self.over = asyncio.Event()
        self.changed = asyncio.Event()
        self.remaining = n
        self.request = Request("test", prompt, specs, self._note, key, prompt_logprobs)

    def _note(self, event):
        self.events.append(event)
        self.remaining -= isinstance(event, Finished)
        if isinstance(event, Failed) or not self.remaining:
            self.over.set()
        self.changed.set()

    def tokens(self, choice=0):
        found = [e for e in self.events if isinstance(e, Token) and e.choice == choice]
        first = found[0].index if found else 0
        assert [e.index for e in found] == list(range(first, first + len(found)))
        return [e.token_id for e in found]

    def of(self, kind):
        return [e for e in self.events if isinstance(e, kind)]

    async def wait(self):
        await asyncio.wait_for(self.over.wait(), WAIT_SECONDS)
        return self

    async def wait_for(self, condition):
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self.changed.clear()
                await self.changed.wait()
