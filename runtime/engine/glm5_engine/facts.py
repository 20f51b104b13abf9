"""What the engine has to know of the model besides its mathematics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one model on one worker.

    Args:
        vocab_size: token ids that the tokenizer knows; the rest of the model's rows are padding and never drawn.
        eos_token_ids: end an output.
        max_model_len: tokens of a sequence at most: what the model allows and the page pool holds.
    """

    vocab_size: int
    eos_token_ids: tuple[int, ...]
    max_model_len: int
