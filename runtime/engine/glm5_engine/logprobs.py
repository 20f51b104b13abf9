"""Logprobs of tokens, as docs/sampling.md defines them: log_softmax(logits / temperature), before bias and filters."""

from dataclasses import dataclass

import numpy as np

from glm5_engine.adjust import Row
from glm5_engine.draw import top_candidates


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The logprob of one token, its rank (0 is the most probable), and the alternatives, most probable first."""

    token_id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()


def token_logprob(row: Row, temperature: float, token_id: int, num_top: int) -> TokenLogprob:
    """Return the logprob of `token_id`.

    Args:
        row: [vocabulary], float64, logits as the model gave them; not changed.
        temperature: 0 (greedy) means the logits themselves.
        token_id: inside the vocabulary.
        num_top: alternatives wanted.
    """
    scaled = row - row.max()
    if temperature > 0:
        with np.errstate(over="ignore"):  # as in `draw`
            scaled /= temperature
    normaliser = np.log(np.exp(scaled).sum())
    value = scaled[token_id]
    rank = int(np.count_nonzero(scaled > value) + np.count_nonzero(scaled[:token_id] == value))
    ids = top_candidates(scaled, num_top)[:num_top] if num_top else np.empty(0, dtype=np.int64)
    top = tuple((int(i), float(scaled[i] - normaliser)) for i in ids)
    return TokenLogprob(token_id, float(value - normaliser), rank, top)
