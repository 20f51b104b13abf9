"""transformers attends to our selections and takes our experts, and says how far its own choices are from ours.

Among hundreds of positions some scores are closer to each other than two orders of summation are. There the choice may
differ, a row attends to another token, and everything after it differs by more than rounding. So choices and numbers
are judged apart: a choice by its margin in the reference's own scores, numbers once both have made the same choices.
"""

import functools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM
from transformers.models.glm_moe_dsa import modeling_glm_moe_dsa as theirs

from glm5_model import layer_attention
from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PAGE_SIZE, PagedCache
from glm5_model.checkpoint import load_attention, load_experts
from glm5_model.config import ModelConfig
from glm5_model.kernels import kernels_for
from glm5_model.local import run_local
from glm5_model.transformer import Transformer

CHOICE_MARGIN = 1e-5
"""Scores nearer than this may change places: they are equal within the error of fp32."""
TOKEN_MARGIN = 1e-4
"""Logits nearer than this may change places."""


@dataclass
class Choices:
    """What our passes over one sequence chose."""

    selected: list[Tensor]
    """Of each full layer the positions that rows from index_topk on attend to, [T - index_topk, index_topk] int64."""
    routed: list[Tensor]
    """Of each sparse layer the experts of every row, [T, k] int64."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A choice that is not the reference's own."""

    kind: str
    layer: int
    """Number among the full layers (positions) or the sparse layers (experts)."""
    row: int
    margin: float
    """How far the reference puts the best that we left out above the worst that we took instead."""


class Ours:
    """A checkpoint in one process of ours, fp32, with every expert at home."""

    def __init__(self, path: Path, numerics: str = "invariant") -> None:
        self.config = ModelConfig.from_dir(path)
        self._kernels = kernels_for("cpu", numerics, torch.float32)
        self._experts = load_experts(path, range(self.config.num_experts), torch.float32)
        self._model = Transformer(self.config, load_attention(path, torch.float32), self._kernels)

    def run(self, ids: Tensor, kept: int, chunk: int = 1024) -> tuple[Tensor, Choices]:
        """Return the logits of the last `kept` rows of one sequence [T], [kept, vocab], and all choices."""
        length = ids.shape[0]
        pages = -(-length // PAGE_SIZE)
        cache, table = PagedCache(self.config, pages, torch.float32), torch.arange(pages)
        noted = _Notes(self.config)
        logits = []
        with noted.taken(self._model):
            for start in range(0, length, chunk):
                part = ids[start : start + chunk]
                noted.rows = part.shape[0]
                batch = Batch([SequenceRows(part, start, table, "all")])
                logits.append(run_local(self._model.forward(batch, cache), self._experts, self._kernels))
        return torch.cat(logits)[-kept:], noted.choices(length)


@dataclass
class _Notes:
    """Collects the choices of passes over chunks of one sequence whose pages are 0, 1, 2, ..."""

    config: ModelConfig
    rows: int = 0
    selected: list[Tensor] = field(default_factory=list)
    routed: list[Tensor] = field(default_factory=list)

    @contextmanager
    def taken(self, model: Transformer) -> Iterator[None]:
        """Note what is chosen meanwhile."""
        layers = model._layers
        select, route = layer_attention.select, layers.route

        def selecting(*arguments: Any) -> Tensor:
            slots = select(*arguments)
            self.selected.append(slots[:, : self.config.index_topk].clone())  # on such pages a slot is a position
            return slots

        def routing(index: int, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            normed, chosen, gates = route(index, hidden)
            self.routed.append(chosen[: self.rows].clone())
            return normed, chosen, gates

        with mock.patch.object(layer_attention, "select", selecting), mock.patch.object(layers, "route", routing):
            yield

    def choices(self, length: int) -> Choices:
        """Return them by layer: every chunk goes through the layers in order."""
        full, sparse = len(self.config.full_layers), len(self.config.moe_layers)
        none = torch.empty(0, self.config.index_topk, dtype=torch.int64)
        found = Choices(
            [torch.cat([none, *self.selected[layer::full]]) for layer in range(full)],
            [torch.cat(self.routed[layer::sparse]) for layer in range(sparse)],
        )
        assert all(rows.shape[0] == max(0, length - self.config.index_topk) for rows in found.selected)
        assert all(rows.shape[0] == length for rows in found.routed)
        return found


class _Topk(TorchFunctionMode):
    """Keeps the scores and the answer of the last topk."""

    scores: Tensor
    chosen: Tensor

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if function in (torch.topk, Tensor.topk):
            self.scores, self.chosen = args[0], found.indices
        return found


def replay(model: Any, ids: Tensor, kept: int, choices: Choices) -> tuple[Tensor, list[Difference]]:
    """Return transformers' logits of the last `kept` rows with our choices, and where its own would have been others.

    Args:
        model: GlmMoeDsaForCausalLM.
        ids: [T].
        kept: rows of logits.
        choices: ours for the same sequence.

    Returns:
        [kept, vocab], and a difference for each layer and row with another choice.
    """
    indexer, router = theirs.GlmMoeDsaIndexer.forward, theirs.GlmMoeDsaTopkRouter.forward
    selected, routed = iter(enumerate(choices.selected)), iter(enumerate(choices.routed))
    found: list[Difference] = []

    def select(self: Any, *arguments: Any, **more: Any) -> Tensor:
        layer, ours = next(selected)
        with _Topk() as own:
            indices: Tensor = indexer(self, *arguments, **more)
        if not ours.shape[0]:
            return indices
        first = indices.shape[1] - ours.shape[0]  # rows before it see all their positions
        margins = _margins(own.scores[0, first:], own.chosen[0, first:], ours)
        found.extend(Difference("positions", layer, first + row, margin) for row, margin in margins)
        return torch.cat([indices[0, :first], ours.to(indices.dtype)])[None]

    def route(self: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        layer, ours = next(routed)
        with _Topk() as own:
            logits, _, _ = router(self, hidden)
        found.extend(Difference("experts", layer, *each) for each in _margins(own.scores, own.chosen, ours))
        gates = logits.sigmoid().gather(1, ours)
        return logits, gates / (gates.sum(-1, keepdim=True) + 1e-20) * self.routed_scaling_factor, ours

    with (
        torch.no_grad(),
        mock.patch.object(theirs.GlmMoeDsaIndexer, "forward", select),
        mock.patch.object(theirs.GlmMoeDsaTopkRouter, "forward", route),
    ):
        logits: Tensor = model(ids[None], use_cache=False, logits_to_keep=kept).logits[0]
    assert next(selected, None) is None, "the reference has fewer full layers than we"
    assert next(routed, None) is None, "the reference has fewer sparse layers than we"
    return logits.float(), found


def _margins(scores: Tensor, own: Tensor, ours: Tensor) -> list[tuple[int, float]]:
    """Return the rows with another choice, and by how much the reference prefers its own.

    Args:
        scores: [R, T], the reference's.
        own: [R, k], its choice.
        ours: [R, k].
    """
    missed, taken = (torch.zeros(scores.shape, dtype=torch.bool).scatter(1, each.long(), True) for each in (own, ours))
    both = missed & taken
    missed, taken = missed ^ both, taken ^ both
    rows = missed.any(1).nonzero().flatten()
    best = scores[rows].masked_fill(~missed[rows], float("-inf")).amax(1)
    worst = scores[rows].masked_fill(~taken[rows], float("inf")).amin(1)
    return list(zip(rows.tolist(), (best - worst).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What transformers says of one greedy answer."""

    is_ours: bool
    """One process of ours comes to the same tokens."""
    choices: list[Difference]
    tokens: list[tuple[int, float]]
    """Where its own greedy token is another one, and by how much it prefers that."""
    largest: float
    """The largest difference of a logit."""


def verdicts(path: Path, prompts: list[list[int]], outputs: list[list[int]]) -> list[Verdict]:
    """Judge greedy answers in fp32, in two processes: each token with our own tokens before it as input."""
    context = multiprocessing.get_context("spawn")
    jobs = sorted(range(len(prompts)), key=lambda job: -len(prompts[job]))  # the longest first
    with ProcessPoolExecutor(2, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = {job: pool.submit(_verdict, path, prompts[job], outputs[job]) for job in jobs}
        return [running[job].result() for job in range(len(prompts))]


def _verdict(path: Path, prompt: list[int], output: list[int]) -> Verdict:
    ours, reference = _models(path)
    ids = torch.tensor([*prompt, *output[:-1]])
    logits, choices = ours.run(ids, len(output))
    expected, differences = replay(reference, ids, len(output), choices)
    margins = expected.amax(1) - expected.gather(1, torch.tensor(output)[:, None])[:, 0]
    others = [(index, float(margin)) for index, margin in enumerate(margins) if margin > 0]
    return Verdict(logits.argmax(1).tolist() == output, differences, others, float((logits - expected).abs().max()))


@functools.lru_cache(1)
def _models(path: Path) -> tuple[Ours, Any]:
    return Ours(path), AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
