"""Field types and the fields that chat and completion share."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from glm5_spec.sampling import MAX_CHOICES, MAX_STOP_STRINGS, MAX_TOP_LOGPROBS

Int = Annotated[int, Field(strict=True)]
Bool = Annotated[bool, Field(strict=True)]
Str = Annotated[str, Field(strict=True)]
Float = Annotated[float, Field(strict=True, allow_inf_nan=False)]
TokenId = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
TopLogprobs = Annotated[int, Field(strict=True, ge=0, le=MAX_TOP_LOGPROBS)]
StopString = Annotated[str, Field(strict=True, min_length=1, max_length=1024)]
Bias = Annotated[float, Field(strict=True, ge=-100, le=100, allow_inf_nan=False)]


class Body(BaseModel):
    """A body whose unknown fields are kept, so that they can be counted."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class StreamOptions(Body):
    """What a stream says besides tokens."""

    include_usage: Bool | None = None
    """One more chunk with the usage, before the end."""
    continuous_usage_stats: Bool | None = None
    """The usage so far in every chunk."""


class GenerateBody(Body):
    """The fields that chat and completion share. `null` is the same as leaving a field out."""

    model: Str | None = None
    stream: Bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=MAX_CHOICES)] | None = None
    """Choices of each prompt."""
    temperature: Annotated[float, Field(strict=True, ge=0, le=100, allow_inf_nan=False)] | None = None
    """0 means greedy."""
    top_p: Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)] | None = None
    top_k: Annotated[int, Field(strict=True, ge=-1, lt=2**31)] | None = None
    """0 and -1 mean off."""
    min_p: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    repetition_penalty: Annotated[float, Field(strict=True, ge=0.01, le=100, allow_inf_nan=False)] | None = None
    """Divides logits: much smaller ones would make them infinite."""
    presence_penalty: Annotated[float, Field(strict=True, ge=-2, le=2, allow_inf_nan=False)] | None = None
    frequency_penalty: Annotated[float, Field(strict=True, ge=-2, le=2, allow_inf_nan=False)] | None = None
    logit_bias: dict[str, Bias] | None = None
    """Token id to an addend."""
    seed: Annotated[int, Field(strict=True, ge=-(2**63), lt=2**64)] | None = None
    do_sample: Bool | None = None
    """false means greedy."""
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] | None = None
    include_stop_str_in_output: Bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=128)] | None = None
    min_tokens: Count | None = None
    ignore_eos: Bool | None = None
    max_tokens: Count | None = None
    skip_special_tokens: Bool | None = None
    """false shows special tokens in the text."""
    return_token_ids: Bool | None = None
    """true adds `prompt_token_ids` and `token_ids`."""
    user: Str | None = None

    @property
    def stops(self) -> list[str]:
        """Return the stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())


ToolChoiceMode = Literal["none", "auto", "required"]
Json = dict[str, Any]
