"""What runs in a pod of the cluster and asks the gateway: over HTTP, plain or as a stream, and over gRPC.

`python3 -c ... PLAN` with a plan in JSON (see `main`). It prints one line of JSON for each answer. Nothing is ever
asked again, connections are reused. Needs grpc and the generated modules, as the gateway's image has them.
"""

import http.client
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from glm5.v1.inference_service_pb2 import CompleteRequest, CompleteStreamRequest
from glm5.v1.inference_service_pb2_grpc import InferenceServiceStub

TIMEOUT_SECONDS = 600
REUSED = (5, 25)
"""Questions on one connection, of every other client; then a new one, so that new gateways get their share."""
Body = dict[str, Any]
STOP = threading.Event()
SPEAK = threading.Lock()


class Http:
    """One connection for HTTP."""

    def __init__(self, plan: Body, stream: bool) -> None:
        self._connection = http.client.HTTPConnection(plan["http"], timeout=TIMEOUT_SECONDS)
        self._stream = stream

    def ask(self, body: Body) -> Iterator[Body]:
        """Yield the answer or its chunks."""
        text = json.dumps({**body, "stream": self._stream})
        self._connection.request("POST", "/v1/completions", text, {"content-type": "application/json"})
        response = self._connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {response.read().decode(errors='replace')}")
        if not self._stream:
            yield json.load(response)
            return
        for line in response:
            if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                yield json.loads(line[6:])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class Grpc:
    """One channel."""

    def __init__(self, plan: Body, stream: bool) -> None:
        options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(plan["grpc"], options)
        self._stub, self._stream = InferenceServiceStub(self._channel), stream

    def ask(self, body: Body) -> Iterator[Body]:
        """Yield the answer or its chunks."""
        if not self._stream:
            answer = self._stub.Complete(_filled(CompleteRequest(), body), timeout=TIMEOUT_SECONDS)
            yield MessageToDict(answer.body)
            return
        for one in self._stub.CompleteStream(_filled(CompleteStreamRequest(), body), timeout=TIMEOUT_SECONDS):
            yield MessageToDict(one.chunk)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


WAYS: dict[str, Any] = {
    "plain": lambda plan: Http(plan, stream=False),
    "sse": lambda plan: Http(plan, stream=True),
    "grpc": lambda plan: Grpc(plan, stream=False),
    "grpc-stream": lambda plan: Grpc(plan, stream=True),
}


def answer(client: Any, body: Body) -> Body:
    """Return the tokens of an answer and how it ended."""
    tokens: list[int] = []
    finish = None
    for part in client.ask(body):
        if "error" in part:
            raise RuntimeError(json.dumps(part["error"]))
        for choice in part.get("choices", []):
            tokens += [int(token) for token in choice.get("token_ids") or []]
            finish = choice.get("finish_reason") or finish
    if finish is None:
        raise RuntimeError(f"the answer has no end after {len(tokens)} tokens")
    return {"tokens": tokens, "finish": finish}


def work(plan: Body, way: str, first: int, step: int, reused: int) -> None:
    """Ask one question after the other, from question `first` on; with `step` 0 always the same."""
    questions, asked, client = plan["questions"], 0, None
    while not STOP.is_set():
        index = (first + asked * step) % len(questions)
        begun, client = time.time(), client or WAYS[way](plan)
        said: Body = {"way": way, "question": index, "begun": begun}
        try:
            said |= answer(client, questions[index])
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            said["error"] = f"{type(error).__name__}: {error}"
        with SPEAK:
            print(json.dumps(said | {"seconds": round(time.time() - begun, 3)}), flush=True)
        asked += 1
        if "error" in said or asked % reused == 0:
            client.close()
            client = None
        if asked == plan.get("times"):
            break
        STOP.wait(plan.get("pause", 0))
    if client is not None:
        client.close()


def _filled(request: Any, body: Body) -> Any:
    request.body.update(body)
    return request


def _each(ways: dict[str, int]) -> list[str]:
    return [way for way, count in ways.items() for _ in range(count)]


def main(plan: Body) -> None:
    """Ask as the plan says: {http, grpc, questions, ways: {way: clients}, last?, times?, step?, pause?}.

    `http` and `grpc` are addresses; `questions` are bodies of /v1/completions, asked in turn. Of each way so many
    clients ask at once, each `times` questions or until SIGTERM, with `pause` seconds between two; each client begins
    `step` questions further on than the one before. Those of `last`, also {way: clients}, ask the last question alone.
    """
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    step, last = plan.get("step", 0), len(plan["questions"]) - 1
    clients = [(way, step * i, 1, REUSED[i % 2]) for i, way in enumerate(_each(plan["ways"]))]
    clients += [(way, last, 0, REUSED[i % 2]) for i, way in enumerate(_each(plan.get("last", {})))]
    threads = [threading.Thread(target=work, args=(plan, *one)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.5)


main(json.loads(sys.argv[1]))
