"""The checkpoint's own chat template, rendered in a sandbox."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from glm5_wire.errors import InvalidRequest, StartupError


class ChatTemplate:
    """Renders messages to the text that the model was trained on.

    Args:
        source: the Jinja template.
        where: the file it came from, for messages.

    Raises:
        StartupError: the template does not compile.
    """

    def __init__(self, source: str, where: str = "chat_template.jinja") -> None:
        self.source = source
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise StartupError(f"cannot use chat template {where}: {error}; copy the file again") from error

    @classmethod
    def from_dir(cls, path: str | Path) -> "ChatTemplate":
        """Return the template of the checkpoint folder `path`: chat_template.jinja, else that of tokenizer_config.json.

        Raises:
            StartupError: there is none, or it does not compile.
        """
        file, config = Path(path) / "chat_template.jinja", Path(path) / "tokenizer_config.json"
        try:
            if file.exists():
                return cls(file.read_text("utf-8"), str(file))
            source = json.loads(config.read_bytes()).get("chat_template")
        except (OSError, ValueError) as error:
            raise StartupError(
                f"cannot read a chat template from {path}: {error}; copy the checkpoint again"
            ) from error
        if not isinstance(source, str):
            raise StartupError(f"no chat template: neither {file} nor `chat_template` in {config}; add one")
        return cls(source, str(config))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the prompt.

        Args:
            messages: as the template wants them, see `messages.prepared`.
            tools: function tools, None for none.
            variables: further template variables (`enable_thinking` and the like).
            add_generation_prompt: whether the assistant's turn is opened.

        Raises:
            InvalidRequest: the template refuses the messages.
        """
        values = dict(variables) | {
            "messages": messages,
            "tools": tools or None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._template.render(values)
        except Exception as error:  # whatever a template raises was caused by the messages
            why = str(error) or type(error).__name__
            raise InvalidRequest(
                "the chat template refuses the messages", "", why, "change the messages", param="messages"
            ) from error


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that Hugging Face's templates are written for."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON without the HTML escapes of Jinja's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    """Let a template refuse its input."""
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    """Return the local time in `form`."""
    return datetime.now().strftime(form)
