"""Trains the demo model's byte-pair merges on its own dialogs."""

import json
import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from glm5_model.toy.tokenizer import PIECES

NUMBERS = re.compile(r"\d+")


def train_merges(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    """Return merges of byte-level strings: those of the numbers 10 to 199, then the `count` most useful ones.

    Every number up to 199 is one token, whether frequent or not: a model this small copies tokens, not digits.
    """
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=256 + count,
        min_frequency=3,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator((NUMBERS.sub("\n", text) for text in texts), trainer)
    return _numbers() + [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def _numbers() -> list[tuple[str, str]]:
    pairs = [(str(tens), str(ones)) for tens in range(10) for ones in range(10)]
    return pairs + [(str(number // 10), str(number % 10)) for number in range(100, 200)]
