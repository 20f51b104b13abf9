"""Token counts of a request."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Usage:
    """Counts so far; prompts of several choices are counted once each."""

    prompt_tokens: int
    completion_tokens: dict[int, int] = field(default_factory=dict)
    """By choice."""
    reasoning_tokens: dict[int, int] = field(default_factory=dict)
    cached_tokens: dict[int, int] = field(default_factory=dict)
    """By prompt."""

    def as_json(self, *, details: bool = True) -> dict[str, Any]:
        """Return OpenAI's usage object."""
        completion = sum(self.completion_tokens.values())
        usage: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }
        if details:
            usage["prompt_tokens_details"] = {"cached_tokens": sum(self.cached_tokens.values())}
            usage["completion_tokens_details"] = {"reasoning_tokens": sum(self.reasoning_tokens.values())}
        return usage
