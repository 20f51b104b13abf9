"""The sampler: filters, penalties, stop ids, logprobs, and that a draw depends on nothing but its row."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm5_engine.philox import uniform
from glm5_engine.sampler import Choice, NotFinite, Sampled, sample
from glm5_spec.sampling import SamplingParams

EOS = (7,)


def choice(index=0, prompt=(0,), outputs=(), **params):
    return Choice(index, SamplingParams(max_tokens=1000, **params), EOS, prompt, outputs)


def logits(*rows):
    return np.array(rows, dtype=np.float32)


def token(row, **fields):
    (result,) = sample(logits(row), [choice(**fields)])
    assert isinstance(result, Sampled), result
    return result.token_id


def drawn(row, count=2000, **fields):
    """Return how often each token is drawn at output indices 0 to count - 1."""
    counts = Counter()
    state = choice(**fields)
    for _ in range(count):
        (result,) = sample(logits(row), [state])
        counts[result.token_id] += 1
        state.record(result.token_id)
    return counts


def reference(row, params, u):
    """Return the token by the plain definition of docs/sampling.md: whole sort, whole sum, one walk."""
    scaled = (row - row.max()) / params.temperature
    kept = scaled >= (np.log(params.min_p) if params.min_p else -np.inf)
    order = [i for i in sorted(range(len(row)), key=lambda i: (-scaled[i], i)) if kept[i]]
    order = order[: params.top_k] if params.top_k else order
    weights = [float(np.exp(scaled[i])) for i in order]
    if params.top_p < 1:
        cumulative = np.cumsum(weights)
        order = order[: int(np.searchsorted(cumulative, params.top_p * cumulative[-1])) + 1]
        weights = weights[: len(order)]
    target, mass = u * sum(weights), 0.0
    for candidate, weight in zip(order, weights, strict=True):
        mass += weight
        if mass > target:
            return candidate
    return order[-1]


def test_greedy_takes_the_highest_and_the_lowest_id_among_equals():
    assert token([1, 5, 5, 0], temperature=0) == 1


def test_a_greedy_batch_equals_its_rows_alone():
    rows = np.random.default_rng(0).normal(size=(16, 50)).astype(np.float32)
    batch = sample(rows, [choice(temperature=0) for _ in range(16)])
    assert [r.token_id for r in batch] == [token(row, temperature=0) for row in rows]


def test_a_sampled_row_draws_the_same_alone_and_in_a_crowd():
    rows = np.random.default_rng(1).normal(size=(8, 300)).astype(np.float32)
    kinds = [{"seed": i, "temperature": 0.5 + i, "top_p": 0.9 if i % 2 else 1.0} for i in range(8)]
    crowd = sample(rows, [choice(**kind) for kind in kinds])
    assert [r.token_id for r in crowd] == [token(row, **kind) for row, kind in zip(rows, kinds, strict=True)]


def test_a_continuation_draws_what_the_first_attempt_would_have():
    row = np.random.default_rng(2).normal(size=40)
    first = choice(seed=9)
    tokens = []
    for _ in range(20):
        (result,) = sample(logits(row), [first])
        tokens.append(result.token_id)
        first.record(result.token_id)
    again = choice(seed=9, outputs=tokens[:12])
    for expected in tokens[12:]:
        (result,) = sample(logits(row), [again])
        assert result.token_id == expected
        again.record(result.token_id)


def test_choices_of_one_seed_draw_differently():
    row = [0.0] * 100
    assert len({token(row, seed=3, index=index) for index in range(8)}) > 4


def test_draws_follow_the_distribution():
    row = np.log([0.5, 0.25, 0.125, 0.125])
    counts = drawn(row, count=8000, seed=11)
    expected = np.array([4000, 2000, 1000, 1000])
    observed = np.array([counts[i] for i in range(4)])
    assert ((observed - expected) ** 2 / expected).sum() < 21  # 3 degrees of freedom, p = 0.0001; the seed is fixed


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.51}, {0, 1}),
        ({"top_p": 0.8}, {0, 1, 2}),
        ({"min_p": 0.45}, {0, 1}),
        ({"min_p": 0.24}, {0, 1, 2, 3}),
        ({"min_p": 0.24, "top_k": 3}, {0, 1, 2}),
        # top_p is a share of what top_k leaves: 0.5 / 0.75 = 0.67 is enough for 0.6.
        ({"top_k": 2, "top_p": 0.6}, {0}),
        ({"top_k": 1}, {0}),
        ({"temperature": 1e-9}, {0}),
    ],
)
def test_filters_leave_exactly_their_candidates(fields, allowed):
    row = np.log([0.5, 0.25, 0.125, 0.125])
    assert set(drawn(row, count=300, **({"seed": 4} | fields))) == allowed


def test_top_k_with_equals_at_the_edge_keeps_the_lowest_ids():
    assert set(drawn([1.0, 0.0, 0.0, 0.0], count=300, top_k=2, temperature=5.0)) == {0, 1}


def test_a_flat_distribution_over_many_tokens_is_drawn_to_its_end():
    counts = drawn(np.zeros(5000), count=600, seed=1)
    assert min(counts) < 500
    assert max(counts) > 4500


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=400),
    st.floats(0.05, 5),
    st.floats(0.05, 1),
    st.integers(0, 10),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.integers(0, 2**64 - 1),
)
def test_a_draw_is_that_of_the_plain_definition(row, temperature, top_p, top_k, min_p, seed):
    fields = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "min_p": min_p, "seed": seed}
    params = SamplingParams(max_tokens=1, **fields)
    values = np.array(row, dtype=np.float32)
    expected = reference(values.astype(np.float64), params, uniform(seed, 0, 0))
    got = token(values, **fields)
    # The two sum in different orders: at a boundary they may differ by neighbours of equal cumulative mass.
    assert got == expected or abs(_cumulative(values, params, got) - _cumulative(values, params, expected)) < 1e-9


def _cumulative(values, params, candidate):
    weights = np.exp((values.astype(np.float64) - values.max()) / params.temperature)
    order = sorted(range(len(weights)), key=lambda i: (-weights[i], i))
    return float(np.cumsum(weights[order])[order.index(candidate)] / weights.sum() - weights[candidate] / weights.sum())


def test_padding_is_the_callers_to_cut_and_bias_outside_is_ignored():
    assert token([0.0, 1.0], temperature=0, logit_bias={5: 100.0}) == 1


def test_logit_bias_decides():
    assert token([3.0, 2.0, 1.0], temperature=0, logit_bias={2: 2.5}) == 2


def test_repetition_penalty_covers_prompt_and_output_and_both_signs():
    row = [2.0, 1.5, -1.0, -1.2]
    assert token(row, temperature=0, prompt=(0,), repetition_penalty=2.0) == 1
    assert token(row, temperature=0, prompt=(0,), outputs=(1,), repetition_penalty=2.0) == 0
    assert token([-1.0, -1.5], temperature=0, prompt=(0,), repetition_penalty=2.0) == 1


def test_presence_and_frequency_penalty_cover_the_output_alone():
    row = [2.0, 1.5, 0.0]
    assert token(row, temperature=0, prompt=(0, 0, 0), presence_penalty=1.0) == 0
    assert token(row, temperature=0, outputs=(0,), presence_penalty=1.0) == 1
    assert token(row, temperature=0, outputs=(0,), frequency_penalty=0.3) == 0
    assert token(row, temperature=0, outputs=(0, 0), frequency_penalty=0.3) == 1


def test_penalties_count_recorded_tokens():
    state = choice(temperature=0, frequency_penalty=0.3)
    for expected in (0, 0, 1):
        (result,) = sample(logits([2.0, 1.5, 0.0]), [state])
        assert result.token_id == expected
        state.record(result.token_id)


def test_min_tokens_forbids_stop_ids_until_then():
    row = np.zeros(9)
    row[7], row[8], row[2] = 5, 4, 3
    fields = {"temperature": 0, "stop_token_ids": (8,), "min_tokens": 2}
    assert token(row, **fields) == 2
    assert token(row, outputs=(2,), **fields) == 2
    assert token(row, outputs=(2, 2), **fields) == 7


def test_ignore_eos_lets_the_models_stops_pass_but_not_the_requests():
    assert choice(ignore_eos=True, stop_token_ids=(3,)).stop_ids == {3}
    assert choice(stop_token_ids=(3,)).stop_ids == {3, 7}


def test_logprobs_are_of_the_row_over_temperature_before_bias_and_filters():
    row = np.array([2.0, 1.0, 0.0, 0.5])
    fields = {"temperature": 2.0, "top_k": 1, "logit_bias": {1: 50.0}, "logprobs": True, "top_logprobs": 2}
    (result,) = sample(logits(row), [choice(**fields)])
    expected = row / 2 - np.log(np.exp(row / 2).sum())
    assert result.token_id == 1
    assert result.logprob.logprob == pytest.approx(expected[1], abs=1e-12)
    assert result.logprob.rank == 1
    assert result.logprob.top == ((0, pytest.approx(expected[0])), (1, pytest.approx(expected[1])))


def test_greedy_logprobs_are_of_the_raw_row_with_equals_ranked_by_id():
    row = np.array([1.0, 3.0, 3.0, 3.0])
    (result,) = sample(logits(row), [choice(temperature=0, logprobs=True, top_logprobs=3)])
    assert result.token_id == 1
    assert result.logprob.rank == 0
    assert [i for i, _ in result.logprob.top] == [1, 2, 3]
    assert result.logprob.logprob == pytest.approx(3 - np.log(np.exp(row).sum()))


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 1.0}])
def test_a_row_that_is_not_finite_has_no_token_and_harms_no_other(fields):
    bad, good = sample(logits([0, np.nan, 1], [0, 1, 2]), [choice(**fields), choice(temperature=0)])
    assert isinstance(bad, NotFinite)
    assert good == Sampled(2)


def test_nothing_left_to_choose_is_an_error():
    (result,) = sample(logits([0.0, 1.0]), [choice(temperature=0, stop_token_ids=(0, 1), min_tokens=1)])
    assert isinstance(result, NotFinite)
