"""Talk to a model. Ctrl-C stops the answer only; Ctrl-D, or an empty Ctrl-C, ends the chat."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from glm5_cli import rundir
from glm5_cli.errors import CliError

DIM, PLAIN = "\033[2m", "\033[0m"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("message", nargs="*", help="ask this one question and end")
    parser.add_argument("--url", help="address of the gateway (default: the running `glm5 up`)")
    parser.add_argument("--model", help="model to ask (default: the first that is served)")
    parser.add_argument("--system", help="system message")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--no-thinking", action="store_true", help="answer without reasoning")


def run(arguments: argparse.Namespace) -> int:
    """Chat until the end of input."""
    headers = {"Authorization": f"Bearer {arguments.api_key}"}
    timeout = httpx.Timeout(30, read=None)
    with httpx.Client(base_url=base_url(arguments), headers=headers, timeout=timeout, trust_env=False) as client:
        chat = Chat(client, arguments)
        if arguments.message:
            return chat.ask(" ".join(arguments.message))
        return chat.loop()


def base_url(arguments: argparse.Namespace) -> str:
    """Return where to ask."""
    if arguments.url:
        return str(arguments.url)
    running = rundir.find()
    if not running:
        raise CliError("no `glm5 up` of yours runs on this machine; start one, or say where with --url")
    return running[0][0]


class Chat:
    """A conversation: the history and the way to continue it."""

    def __init__(self, client: httpx.Client, arguments: argparse.Namespace) -> None:
        self._client = client
        self._arguments = arguments
        self._model = arguments.model or self._first_model()
        self._history = [{"role": "system", "content": arguments.system}] if arguments.system else []
        self._colour = sys.stdout.isatty()

    def _first_model(self) -> str:
        try:
            response = self._client.get("/v1/models")
        except httpx.HTTPError as error:
            raise CliError(f"nobody answers at {self._client.base_url}: {error}; is the gateway up?") from error
        raise_for_error(response)
        return str(response.json()["data"][0]["id"])

    def loop(self) -> int:
        """Ask what is typed until the end of input."""
        print(f"{self._model} at {self._client.base_url}; Ctrl-D ends")
        while True:
            try:
                text = input("> ")
            except (EOFError, KeyboardInterrupt):
                print()
                return 0
            if text.strip():
                self.ask(text)

    def ask(self, text: str) -> int:
        """Print the answer as it comes; what was said so far stays in the history even if it is cut."""
        self._history.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            for kind, piece in self._stream():
                self._show(kind, piece)
                if kind == "content":
                    said.append(piece)
        except KeyboardInterrupt:
            print(" [stopped]", end="")
        except (CliError, httpx.HTTPError) as error:
            print(f"\nglm5 chat: {error}", file=sys.stderr)
            return 1
        finally:
            print(flush=True)
            self._history.append({"role": "assistant", "content": "".join(said)})
        return 0

    def _show(self, kind: str, piece: str) -> None:
        dim = self._colour and kind == "reasoning"
        print(f"{DIM}{piece}{PLAIN}" if dim else piece, end="", flush=True)

    def _stream(self) -> Iterator[tuple[str, str]]:
        """Yield ("reasoning" or "content", text) pieces of the answer."""
        body = {
            "model": self._model,
            "messages": self._history,
            "stream": True,
            "temperature": self._arguments.temperature,
        }
        if self._arguments.no_thinking:
            body["chat_template_kwargs"] = {"enable_thinking": False}
        thinking = False
        with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            raise_for_error(response)
            for event in events(response):
                delta = event["choices"][0]["delta"] if event.get("choices") else {}
                if reasoning := delta.get("reasoning_content"):
                    thinking = True
                    yield "reasoning", reasoning
                if content := delta.get("content"):
                    yield "content", ("\n" + content if thinking else content)
                    thinking = False


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each server-sent event.

    Raises:
        CliError: the server sent an error event.
    """
    for line in response.iter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise CliError(event["error"].get("message", line))
        yield event


def raise_for_error(response: httpx.Response) -> None:
    """Raise CliError with the server's own words where it refused."""
    if response.status_code < 400:
        return
    text = response.read().decode(errors="replace")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]["message"]
    raise CliError(f"HTTP {response.status_code}: {text}")
