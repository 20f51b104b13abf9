"""Draws one token from a row of logits: filters and inverse CDF, in float64. docs/sampling.md has the order.

Only the most probable candidates are sorted, as many as the draw needs: a vocabulary of 150,000 is never sorted whole
unless the distribution is that flat.
"""

import numpy as np
from numpy.typing import NDArray

from glm5_engine.adjust import Row
from glm5_spec.sampling import SamplingParams

_FIRST_CANDIDATES = 128
_GROWTH = 16


def draw(row: Row, params: SamplingParams, uniform: float) -> int:
    """Return the token id at `uniform` of the inverse CDF over candidates (probability descending, id ascending).

    Args:
        row: [vocabulary], float64, adjusted logits; changed in place.
        params: temperature is above 0.
        uniform: in [0, 1).
    """
    row -= row.max()
    with np.errstate(over="ignore"):  # a temperature near 0 sends all but the best to minus infinity, as it should
        row /= params.temperature
    if params.min_p > 0:
        row[row < np.log(params.min_p)] = -np.inf
    weights = np.exp(row)
    if params.top_k and params.top_k < len(row):
        return _pick_in(weights, top_candidates(row, params.top_k)[: params.top_k], params.top_p, uniform)
    return _pick(row, weights, params.top_p, uniform)


def top_candidates(row: Row, count: int) -> NDArray[np.int64]:
    """Return the ids of the `count` highest values and all equal to the last, by (value descending, id ascending)."""
    if count >= len(row):
        return np.argsort(-row, kind="stable")
    threshold = np.partition(row, len(row) - count)[len(row) - count]
    ids = np.flatnonzero(row >= threshold)
    return ids[np.argsort(-row[ids], kind="stable")]


def _pick_in(weights: Row, ids: NDArray[np.int64], top_p: float, uniform: float) -> int:
    """Return the id drawn from `ids`, which hold all of the mass."""
    cumulative = np.cumsum(weights[ids])
    cut = _cut(cumulative, top_p * cumulative[-1]) if top_p < 1 else len(ids)
    return _at(ids, cumulative[:cut], uniform * cumulative[cut - 1])


def _pick(row: Row, weights: Row, top_p: float, uniform: float) -> int:
    """Return the id drawn from all of `weights`, looking at no more candidates than the draw needs."""
    total = weights.sum()
    size = _FIRST_CANDIDATES
    while True:
        ids = top_candidates(row, size)
        cumulative = np.cumsum(weights[ids])
        wanted = top_p * total if top_p < 1 else uniform * total
        if cumulative[-1] > wanted or len(ids) == len(row):
            break
        size *= _GROWTH
    if top_p < 1:
        cumulative = cumulative[: _cut(cumulative, wanted)]
        return _at(ids, cumulative, uniform * cumulative[-1])
    return _at(ids, cumulative, wanted)


def _cut(cumulative: Row, mass: float) -> int:
    """Return the length of the shortest prefix with at least `mass`."""
    return min(int(np.searchsorted(cumulative, mass, side="left")) + 1, len(cumulative))


def _at(ids: NDArray[np.int64], cumulative: Row, target: float) -> int:
    """Return the first id whose cumulative mass is above `target`; where rounding leaves none, the last with mass."""
    index = int(np.searchsorted(cumulative, target, side="right"))
    if index >= len(cumulative):
        index = int(np.searchsorted(cumulative, cumulative[-1], side="left"))
    return int(ids[index])
