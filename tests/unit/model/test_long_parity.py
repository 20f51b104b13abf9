"""Every logit of 4,096 tokens is that of transformers, once both make the same choices.

Among thousands of positions some scores are closer to each other than two orders of summation are, and then the choice
differs and so does everything after it. So transformers is made to attend and to route as we did; that the choices
themselves are right is tested on shorter sequences, where none is that close.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.glm_moe_dsa import modeling_glm_moe_dsa as theirs

from glm5_model import layer_attention, transformer
from glm5_model.batch import SequenceRows
from unit.model.conftest import VARIANTS, Reference, make_reference, page_table, serve, tokens

LENGTH, CHUNK, TOP_K = 4096, 512, 128


class Choices:
    """What our passes selected and routed, by the number of the full or sparse layer, over all chunks."""

    def __init__(self, num_full: int, num_sparse: int) -> None:
        self.selected: list[list[Tensor]] = [[] for _ in range(num_full)]
        self.routed: list[list[Tensor]] = [[] for _ in range(num_sparse)]
        self.selections = self.routes = 0

    def select(self, plain: Any) -> Any:
        def noting(*arguments: Any) -> Tensor:
            slots: Tensor = plain(*arguments)
            # One sequence on pages 0, 1, 2, ...: a slot is a position.
            self.selected[self.selections % len(self.selected)].append(slots[:, :TOP_K].clone())
            self.selections += 1
            return slots

        return noting

    def route(self, plain: Any) -> Any:
        def noting(*arguments: Any) -> tuple[Tensor, Tensor]:
            chosen, gates = plain(*arguments)
            self.routed[self.routes % len(self.routed)].append(chosen[:CHUNK].clone())
            self.routes += 1
            return chosen, gates

        return noting


@contextmanager
def replayed(choices: Choices, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let transformers attend to our selection and take our experts."""
    dense = torch.arange(TOP_K).expand(TOP_K, -1)  # the causal mask takes away what is later
    selected = iter([torch.cat([dense, *parts])[None].int() for parts in choices.selected])
    routed = iter([torch.cat(parts) for parts in choices.routed])

    def route(self: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = next(routed)
        logits = hidden.view(-1, self.hidden_dim) @ self.weight.T
        gates = logits.sigmoid().gather(1, chosen)
        return logits, gates / (gates.sum(-1, keepdim=True) + 1e-20) * self.routed_scaling_factor, chosen

    with monkeypatch.context() as patch:
        patch.setattr(theirs.GlmMoeDsaIndexer, "forward", lambda *_, **__: next(selected))
        patch.setattr(theirs.GlmMoeDsaTopkRouter, "forward", route)
        yield


@pytest.fixture(params=list(VARIANTS))
def long_reference(request: pytest.FixtureRequest, tmp_path: Path) -> Reference:
    return make_reference(tmp_path, index_topk=TOP_K, **VARIANTS[request.param])


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_logit_of_4096_tokens_is_that_of_transformers(
    long_reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, ids = serve(long_reference.path), tokens(LENGTH)
    choices = Choices(len(served.config.full_layers), len(served.config.moe_layers))
    with monkeypatch.context() as patch:
        patch.setattr(layer_attention, "select", choices.select(layer_attention.select))
        patch.setattr(transformer, "route", choices.route(transformer.route))
        cache, table = served.cache(), page_table(LENGTH)
        parts = [
            served.run(cache, SequenceRows(ids[first : first + CHUNK], first, table, "all"))
            for first in range(0, LENGTH, CHUNK)
        ]
    with replayed(choices, monkeypatch):
        expected = long_reference.logits(ids)
    difference = (torch.cat(parts) - expected).abs().amax(-1)
    print(f"{LENGTH} tokens: largest difference {difference.max():.2e}")
    assert difference.max() <= 1e-4, (difference > 1e-4).nonzero().flatten().tolist()[:20]
