"""Draws the next token of each sequence of a step from its logits. Pure; the step loop calls it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glm5_engine.adjust import History, Row, adjust, is_neutral
from glm5_engine.draw import draw
from glm5_engine.logprobs import TokenLogprob, token_logprob
from glm5_engine.philox import uniform
from glm5_spec.sampling import SamplingParams

Logits = NDArray[np.float32]


class NotFinite(Exception):
    """A row of logits holds NaN, or nothing but minus infinity."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A drawn token, with its logprob where asked for."""

    token_id: int
    logprob: TokenLogprob | None = None


@dataclass(slots=True)
class Choice:
    """What the sampler knows of one choice.

    Args:
        index: of the choice; part of the key of its draws.
        params: of the choice.
        eos_token_ids: of the model.
        prompt: token ids.
        outputs: token ids delivered before; `record` counts the later ones.
    """

    index: int
    params: SamplingParams
    eos_token_ids: Sequence[int]
    prompt: Sequence[int]
    outputs: Sequence[int] = ()
    num_outputs: int = field(init=False)
    stop_ids: frozenset[int] = field(init=False)
    history: History = field(init=False)

    def __post_init__(self) -> None:
        self.num_outputs = len(self.outputs)
        own = () if self.params.ignore_eos else self.eos_token_ids
        self.stop_ids = frozenset((*self.params.stop_token_ids, *own))
        self.history = History()
        if self._has_penalties:
            self.history = History(frozenset(self.prompt), Counter(self.outputs))

    @property
    def _has_penalties(self) -> bool:
        p = self.params
        return p.repetition_penalty != 1 or p.presence_penalty != 0 or p.frequency_penalty != 0

    @property
    def is_argmax(self) -> bool:
        """Return whether the next token is the plain argmax of the logits, with nothing more to say about it."""
        p = self.params
        return p.temperature == 0 and not p.logprobs and is_neutral(p, self.num_outputs)

    def record(self, token_id: int) -> None:
        """Count a token of the output."""
        self.num_outputs += 1
        if self._has_penalties:
            self.history.output[token_id] += 1


def sample(logits: Logits, choices: Sequence[Choice]) -> list[Sampled | NotFinite]:
    """Return the next token of each choice, or why it has none.

    Args:
        logits: [choices, vocabulary], float32; padding of the vocabulary is cut off. Not changed.
        choices: one per row.
    """
    best = logits.argmax(axis=1)  # numpy's: the lowest id among equals, and NaN before everything
    highest = logits[np.arange(len(choices)), best]
    finite = np.isfinite(highest)
    results: list[Sampled | NotFinite] = []
    for row, choice in enumerate(choices):
        if not finite[row]:
            results.append(NotFinite(f"the logits of choice {choice.index} are not finite"))
        elif choice.is_argmax:
            results.append(Sampled(int(best[row])))
        else:
            results.append(_sample_row(logits[row].astype(np.float64), choice))
    return results


def _sample_row(raw: Row, choice: Choice) -> Sampled | NotFinite:
    """Return the token of one row that is more than an argmax."""
    params = choice.params
    row = raw.copy()
    adjust(row, params, choice.history, choice.num_outputs, choice.stop_ids)
    if not np.isfinite(row.max()):
        return NotFinite(f"bias and min_tokens leave choice {choice.index} no token to choose")
    if params.temperature == 0:
        token = int(row.argmax())
    else:
        token = draw(row, params, uniform(params.seed, choice.index, choice.num_outputs))
    if not params.logprobs:
        return Sampled(token)
    return Sampled(token, token_logprob(raw, params.temperature, token, params.top_logprobs))
