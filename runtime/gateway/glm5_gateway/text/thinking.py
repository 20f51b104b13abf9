"""The switches for reasoning that clients know, turned into variables of the chat template."""

import re
from collections.abc import Mapping
from typing import Any, Literal

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_OFF = ("none", "minimal")
_RISING = ("low", "medium", "high", "xhigh", "max")


def template_variables(
    template_source: str,
    *,
    effort: Effort | None,
    enable_thinking: bool | None,
    clear_thinking: bool | None,
    further: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the template variables of a request; `further` (chat_template_kwargs) wins over the rest.

    An effort that the template does not tell apart becomes the next higher one that it does, as Z.AI's API has it.
    """
    variables: dict[str, Any] = {}
    if effort in _OFF:
        variables["enable_thinking"] = False
    elif effort is not None:
        variables["reasoning_effort"] = _known_effort(template_source, effort)
    if enable_thinking is not None:
        variables["enable_thinking"] = enable_thinking
    if clear_thinking is not None:
        variables["clear_thinking"] = clear_thinking
    return variables | dict(further)


def _known_effort(template_source: str, effort: str) -> str:
    """Return `effort`, or the next higher one that stands in the template as a string."""
    for name in _RISING[_RISING.index(effort) :]:
        if re.search(rf"""(['"]){name}\1""", template_source):
            return name
    return "max" if "reasoning_effort" in template_source else effort


def ends_in_thinking(prompt: str) -> bool:
    """Return whether the rendered `prompt` leaves `<think>` open at its end."""
    return prompt.rstrip().endswith("<think>")


def ends_after_thinking(prompt: str) -> bool:
    """Return whether the rendered `prompt` has closed thinking at its end."""
    return prompt.rstrip().endswith("</think>")
