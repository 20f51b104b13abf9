"""Finds tool calls in content, in GLM's format, and turns their arguments into JSON as they come.

`<tool_call>name<arg_key>k</arg_key><arg_value>v</arg_value>...</tool_call>`; arguments that the schema declares as
strings are streamed character by character, others when they are complete.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from glm5_gateway.text.partial import first_of, held_back
from glm5_gateway.text.values import dump, is_plain_string, parse_value

CALL, END = "<tool_call>", "</tool_call>"
KEY, KEY_END = "<arg_key>", "</arg_key>"
VALUE, VALUE_END = "<arg_value>", "</arg_value>"


@dataclass(frozen=True, slots=True)
class Content:
    """Text outside calls."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins; its name is complete."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next part of a call's arguments; all parts joined are one JSON object."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call is complete."""

    index: int


Event = Content | CallStart | CallArguments | CallEnd


class State(Enum):
    """Where in the grammar the parser is."""

    CONTENT = "content"
    NAME = "name"
    ARGUMENTS = "arguments"
    KEY = "key"
    VALUE_OPEN = "value_open"
    VALUE = "value"


class ToolCallParser:
    """An incremental state machine over the content of one choice; its events do not depend on how text is cut.

    Args:
        parameters: JSON schema of the parameters of each tool by name; unknown tools are passed on, untyped.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._state = State.CONTENT
        self._pending = ""
        self._space = ""
        self._blank = True
        """No content yet since the start or the last call: whitespace waits in `_space` for content to follow."""
        self._key = ""
        self._keys: set[str] = set()
        self._name = ""
        self._opened = False
        """Whether the quote of a streamed string is written."""
        self.num_calls = 0

    @property
    def in_call(self) -> bool:
        """Return whether a call has begun and not ended."""
        return self._state not in (State.CONTENT, State.NAME)

    def push(self, text: str) -> list[Event]:
        """Return the events that `text` decides."""
        self._pending += text
        events: list[Event] = []
        while True:
            state = self._state
            events += _STEPS[state](self)
            if self._state is state:
                return _merged(events)

    def finish(self, *, complete: bool) -> list[Event]:
        """Return what is left when the output ends.

        Args:
            complete: True where the model ended its turn: a call left open is closed, so that its arguments are
                JSON. False where the output was cut: nothing is made up.
        """
        events: list[Event] = []
        if self._state is State.NAME:
            name = self._pending.strip()
            known = complete and name in self._parameters
            events += [*self._begin(name), *self._end_call()] if known else self._content(CALL + self._pending)
        elif self._state is State.CONTENT:
            events += self._content(self._pending)
        elif complete:
            if self._state is State.VALUE:
                events += self._end_value(self._pending)
            events += self._end_call()
        elif self._state is State.VALUE and self._is_string():
            events += self._string(self._pending)
        if self._space and not self.num_calls:
            events.append(Content(self._space))
        self._pending = self._space = ""
        self._state = State.CONTENT
        return _merged(events)

    def _take(self, *tags: str) -> tuple[str, str] | None:
        """Return the text before the first of `tags`, and the tag; None, consuming nothing, if there is none yet."""
        found = first_of(self._pending, tags)
        if found is None:
            return None
        place, tag = found
        before, self._pending = self._pending[:place], self._pending[place + len(tag) :]
        return before, tag

    def _in_content(self) -> list[Event]:
        """Pass content on up to the next call."""
        if (taken := self._take(CALL)) is not None:
            self._state = State.NAME
            return self._content(taken[0])
        decided = len(self._pending) - held_back(self._pending, (CALL,))
        text, self._pending = self._pending[:decided], self._pending[decided:]
        return self._content(text)

    def _content(self, text: str) -> list[Event]:
        """Return content; whitespace alone waits, because around calls it is no content."""
        text, self._space = self._space + text, ""
        if not text:
            return []
        if self._blank and text.isspace():
            self._space = text
            return []
        self._blank = False
        return [Content(text)]

    def _in_name(self) -> list[Event]:
        """Read the name, up to a newline, the first key or the end."""
        stripped = self._pending.lstrip()
        if not stripped or (taken := first_of(stripped, ("\n", KEY, END))) is None:
            return []
        place, tag = taken
        name = stripped[:place].strip()
        if not name:  # not a call: the text is shown as it is
            raw = CALL + self._pending[: len(self._pending) - len(stripped) + place + len(tag)]
            self._pending = stripped[place + len(tag) :]
            self._state = State.CONTENT
            return self._content(raw)
        self._pending = stripped[place:] if tag != "\n" else stripped[place + 1 :]
        return self._begin(name)

    def _begin(self, name: str) -> list[Event]:
        """Begin a call."""
        self._name, self._keys, self._space = name, set(), ""
        self._state = State.ARGUMENTS
        self.num_calls += 1
        return [CallStart(self.num_calls - 1, name)]

    def _in_arguments(self) -> list[Event]:
        """Look for the next key or the end; other text between arguments means nothing."""
        taken = self._take(KEY, END, CALL)
        if taken is None:
            return []
        tag = taken[1]
        if tag == KEY:
            self._state = State.KEY
            return []
        events = self._end_call()
        self._state = State.NAME if tag == CALL else State.CONTENT
        return events

    def _in_key(self) -> list[Event]:
        """Read a key."""
        if (taken := self._take(KEY_END)) is not None:
            self._key, self._opened = taken[0].strip(), False
            self._state = State.VALUE_OPEN
        return []

    def _in_value_open(self) -> list[Event]:
        """Wait for the value; a key without one is dropped."""
        taken = self._take(VALUE, KEY, END)
        if taken is None:
            return []
        if taken[1] == VALUE:
            self._state = State.VALUE
        else:
            self._pending = taken[1] + self._pending
            self._state = State.ARGUMENTS
        return []

    def _in_value(self) -> list[Event]:
        """Stream a string, or wait for the whole of another value. Only the full closing tag ends it."""
        if (taken := self._take(VALUE_END)) is not None:
            self._state = State.ARGUMENTS
            return self._end_value(taken[0])
        if not self._is_string():
            return []
        decided = len(self._pending) - held_back(self._pending, (VALUE_END,))
        text, self._pending = self._pending[:decided], self._pending[decided:]
        return self._string(text) if text else []

    def _is_string(self) -> bool:
        """Return whether the current value is declared as a string."""
        schema = self._schema()
        return is_plain_string(schema, self._parameters.get(self._name))

    def _schema(self) -> Any:
        """Return the schema of the current argument; None if nothing is declared."""
        parameters = self._parameters.get(self._name)
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        return properties.get(self._key) if isinstance(properties, Mapping) else None

    def _string(self, text: str) -> list[Event]:
        """Return the next part of a streamed string."""
        if self._key in self._keys and not self._opened:
            return []  # the same key twice: the first one holds
        if not text and self._opened:
            return []
        head = "" if self._opened else self._lead() + '"'
        self._opened = True
        return [CallArguments(self.num_calls - 1, head + json.dumps(text, ensure_ascii=False)[1:-1])]

    def _end_value(self, text: str) -> list[Event]:
        """Return the rest of a value that ends with `text`."""
        if self._is_string():
            events = self._string(text)
            return [*events, CallArguments(self.num_calls - 1, '"')] if self._opened else []
        if self._key in self._keys:
            return []
        value = parse_value(text, self._schema(), self._parameters.get(self._name))
        return [CallArguments(self.num_calls - 1, self._lead() + dump(value))]

    def _lead(self) -> str:
        """Return brace or comma, and the key."""
        lead = ", " if self._keys else "{"
        self._keys.add(self._key)
        return lead + json.dumps(self._key, ensure_ascii=False) + ": "

    def _end_call(self) -> list[Event]:
        """Close the arguments."""
        index, self._blank = self.num_calls - 1, True
        return [CallArguments(index, "}" if self._keys else "{}"), CallEnd(index)]


_STEPS: dict[State, Callable[[ToolCallParser], list[Event]]] = {
    State.CONTENT: ToolCallParser._in_content,
    State.NAME: ToolCallParser._in_name,
    State.ARGUMENTS: ToolCallParser._in_arguments,
    State.KEY: ToolCallParser._in_key,
    State.VALUE_OPEN: ToolCallParser._in_value_open,
    State.VALUE: ToolCallParser._in_value,
}


def _merged(events: list[Event]) -> list[Event]:
    """Return `events` with neighbours of one kind and call joined."""
    merged: list[Event] = []
    for event in events:
        last = merged[-1] if merged else None
        if isinstance(event, Content) and isinstance(last, Content):
            merged[-1] = Content(last.text + event.text)
        elif isinstance(event, CallArguments) and isinstance(last, CallArguments) and last.index == event.index:
            merged[-1] = CallArguments(last.index, last.text + event.text)
        else:
            merged.append(event)
    return merged
