"""Sampling parameters of one choice, and the limits that every room agrees on."""

from pydantic import Field

from glm5_spec.base import Model

MAX_CHOICES = 8
MAX_TOP_LOGPROBS = 20
MAX_STOP_STRINGS = 16


class SamplingParams(Model):
    """How the tokens of one choice are drawn; docs/sampling.md has the order of filters."""

    temperature: float = Field(default=1.0, ge=0, le=100)
    """0 means greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 means off."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0, le=100)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: dict[int, float] = Field(default_factory=dict)
    """Token id to an addend in -100 to 100."""
    seed: int = Field(default=0, ge=0, lt=2**64)
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int = Field(default=0, ge=0)
    ignore_eos: bool = False
    max_tokens: int = Field(ge=1)
    """Tokens of output in all, those of earlier attempts included."""
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_TOP_LOGPROBS)
    prompt_logprobs: bool = False
