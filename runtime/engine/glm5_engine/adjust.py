"""What changes logits before a token is drawn: bias, minimum length, penalties. docs/sampling.md has the order."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glm5_spec.sampling import SamplingParams

Row = NDArray[np.float64]


@dataclass(slots=True)
class History:
    """The tokens that penalties look at: ids of the prompt once, ids of the output with their counts."""

    prompt: frozenset[int] = frozenset()
    output: Counter[int] = field(default_factory=Counter)


def is_neutral(params: SamplingParams, num_outputs: int) -> bool:
    """Return whether `adjust` would change nothing for the next token after `num_outputs` of them."""
    return (
        not params.logit_bias
        and num_outputs >= params.min_tokens
        and params.repetition_penalty == 1
        and params.presence_penalty == 0
        and params.frequency_penalty == 0
    )


def adjust(row: Row, params: SamplingParams, history: History, num_outputs: int, stop_ids: frozenset[int]) -> None:
    """Change `row` in place: bias, then stop ids forbidden below min_tokens, then the three penalties.

    Args:
        row: [vocabulary], float64, logits of the model.
        params: of the choice.
        history: tokens so far.
        num_outputs: tokens of output so far, those of earlier attempts included.
        stop_ids: ids that end the output.
    """
    for token, bias in params.logit_bias.items():
        if token < len(row):
            row[token] += bias
    if num_outputs < params.min_tokens:
        row[[token for token in stop_ids if token < len(row)]] = -np.inf
    if params.repetition_penalty != 1:
        _repetition(row, params.repetition_penalty, history)
    if params.presence_penalty or params.frequency_penalty:
        _presence_and_frequency(row, params, history.output)


def _repetition(row: Row, penalty: float, history: History) -> None:
    """Divide positive and multiply negative logits of every id in prompt or output by `penalty`."""
    ids = _ids(history.prompt | history.output.keys(), len(row))
    values = row[ids]
    row[ids] = np.where(values > 0, values / penalty, values * penalty)


def _presence_and_frequency(row: Row, params: SamplingParams, output: Counter[int]) -> None:
    """Subtract presence_penalty once and frequency_penalty per occurrence from every id of the output."""
    ids = _ids(output.keys(), len(row))
    counts = np.array([output[int(token)] for token in ids], dtype=np.float64)
    row[ids] -= params.presence_penalty + params.frequency_penalty * counts


def _ids(tokens: Iterable[int], limit: int) -> NDArray[np.int64]:
    """Return `tokens` below `limit` as an index array."""
    return np.array([token for token in tokens if token < limit], dtype=np.int64)
