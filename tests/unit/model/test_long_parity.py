"""Every logit of 4,096 tokens is that of transformers, once both make the same choices (see support_replay)."""

from pathlib import Path

import pytest

from support_replay import CHOICE_MARGIN, Ours, replay
from unit.model.conftest import VARIANTS, Reference, make_reference, tokens

LENGTH, CHUNK, TOP_K = 4096, 512, 128


@pytest.fixture(params=list(VARIANTS))
def long_reference(request: pytest.FixtureRequest, tmp_path: Path) -> Reference:
    return make_reference(tmp_path, index_topk=TOP_K, **VARIANTS[request.param])


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_logit_of_4096_tokens_is_that_of_transformers(long_reference: Reference) -> None:
    ids = tokens(LENGTH)
    logits, choices = Ours(long_reference.path).run(ids, LENGTH, CHUNK)
    expected, differences = replay(long_reference.model, ids, LENGTH, choices)
    difference = (logits - expected).abs().amax(-1)
    margins = [choice.margin for choice in differences]
    print(f"{LENGTH} tokens: {len(margins)} choices differ, margins up to {max(margins, default=0):.1e}")
    print(f"logits differ by {difference.max():.1e} at most")
    assert max(margins, default=0) < CHOICE_MARGIN, [each for each in differences if each.margin >= CHOICE_MARGIN]
    assert difference.max() <= 1e-4, (difference > 1e-4).nonzero().flatten().tolist()[:20]
