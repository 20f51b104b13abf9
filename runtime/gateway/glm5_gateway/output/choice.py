"""One choice: tokens in, deltas out. The same code serves streams and whole answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glm5.v1.sampling_pb2 import TokenLogprob
from glm5_gateway.events import FinishReason
from glm5_gateway.output.delta import Delta, Piece, Reasoning, Text
from glm5_gateway.text.detokenizer import Detokenizer
from glm5_gateway.text.reasoning import Kind, ReasoningSplitter
from glm5_gateway.text.stops import StopStrings
from glm5_gateway.text.tokenizer import Tokenizer
from glm5_gateway.text.tool_calls import CallEnd, Content, Event, ToolCallParser


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """What a request wants its output to become."""

    stops: Sequence[str] = ()
    include_stop: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    """Of the request; the model's own are no stop reason that is told."""
    min_tokens: int = 0
    skip_special: bool = True
    splits_reasoning: bool = False
    thinks_first: bool = False
    """The prompt ended in `<think>`."""
    may_think: bool = False
    """The prompt left open whether the model thinks."""
    shows_reasoning: bool = True
    tools: Mapping[str, Any] | None = None
    """Parameter schemas by name; None switches the parser off."""
    one_call: bool = False
    """The first tool call ends the answer."""
    drops_output: bool = False
    """Only the prompt's scores are wanted."""


class ChoiceOutput:
    """The state of one choice's text."""

    def __init__(self, tokenizer: Tokenizer, plan: OutputPlan) -> None:
        self._plan = plan
        self._detokenizer = Detokenizer(tokenizer, skip_special=plan.skip_special)
        self._stops = StopStrings(plan.stops, include=plan.include_stop)
        self._splitter = _splitter(plan)
        self._parser = ToolCallParser(plan.tools) if plan.tools is not None else None
        self._called = False
        self.num_tokens = 0
        self.reasoning_tokens = 0
        self.done = False
        """The choice has ended; the worker need not go on with it."""

    def push(self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprob] = ()) -> Delta:
        """Return what `token_ids` add; after a stop string or the only call wanted, the delta is the last."""
        delta = Delta()
        for place, token_id in enumerate(token_ids):
            if self.done:
                break
            if self._plan.drops_output:
                continue
            self.num_tokens += 1
            self.reasoning_tokens += self._splitter is not None and self._splitter.inside
            delta.token_ids.append(token_id)
            delta.logprobs.extend(logprobs[place : place + 1])
            text = self._detokenizer.push(token_id)
            text = self._stops.push(text, check=self.num_tokens > self._plan.min_tokens)
            delta.pieces += self._pieces(text)
            self._look_for_end(delta)
        return delta

    def finish(self, reason: FinishReason, stop_token_id: int = 0) -> Delta:
        """Return the last delta: what was held back, and why the choice ended."""
        delta = Delta()
        if self.done:
            return delta
        held = self._stops.push(self._detokenizer.finish())
        matched = self._stops.matched
        delta.pieces += self._pieces(held + self._stops.finish())
        stop_reason: str | int | None = matched
        if reason == "stop" and matched is None and stop_token_id in self._plan.stop_token_ids:
            stop_reason = stop_token_id
        self._close(delta, "stop" if matched is not None else reason, stop_reason)
        return delta

    def _look_for_end(self, delta: Delta) -> None:
        """End the choice where the gateway is the one who sees its end."""
        if self._stops.matched is not None:
            self._close(delta, "stop", self._stops.matched)
        elif self._called and self._plan.one_call:
            self._close(delta, "stop", None)

    def _close(self, delta: Delta, reason: str, stop_reason: str | int | None) -> None:
        """Flush the parsers and set the end."""
        cut_short = self._called and self._plan.one_call
        if self._splitter is not None and not cut_short:
            delta.pieces += self._sorted(self._splitter.finish())
        if self._parser is not None and not cut_short:
            delta.pieces += self._known(self._parser.finish(complete=reason == "stop"))
        calls = self._parser is not None and self._parser.num_calls > 0
        delta.finish_reason = "tool_calls" if calls and reason == "stop" else reason
        delta.stop_reason = stop_reason
        self.done = True

    def _pieces(self, text: str) -> list[Piece]:
        """Return shown text as pieces."""
        if not text:
            return []
        if self._splitter is not None:
            return self._sorted(self._splitter.push(text))
        return self._content(text)

    def _sorted(self, pieces: Sequence[tuple[Kind, str]]) -> list[Piece]:
        """Return reasoning as such and look for calls in content."""
        result: list[Piece] = []
        for kind, text in pieces:
            if kind is Kind.CONTENT:
                result += self._content(text)
            elif self._plan.shows_reasoning:
                result.append(Reasoning(text))
        return result

    def _content(self, text: str) -> list[Piece]:
        """Return content with its calls found."""
        return self._known(self._parser.push(text)) if self._parser is not None else [Text(text)]

    def _known(self, events: Sequence[Event]) -> list[Piece]:
        """Return the parser's events as pieces, up to the end of the only call wanted."""
        result: list[Piece] = []
        for event in events:
            if self._called and self._plan.one_call:
                break
            if isinstance(event, CallEnd):
                self._called = True
            else:
                result.append(Text(event.text) if isinstance(event, Content) else event)
        return result


def _splitter(plan: OutputPlan) -> ReasoningSplitter | None:
    """Return the splitter of a plan, None where everything is content."""
    if not plan.splits_reasoning:
        return None
    return ReasoningSplitter(inside=plan.thinks_first, may_open=plan.may_think, tools=plan.tools is not None)
