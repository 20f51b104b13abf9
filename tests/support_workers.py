"""Shards and attention workers as real processes, without a launcher: asked over gRPC, killed where a test wants it."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from glm5.v1 import decode_service_pb2 as decode_pb
from glm5.v1 import peer_pb2, sampling_pb2
from glm5_wire.channel import open_channel
from glm5_wire.clients import DecodeClient
from glm5_wire.watcher import PeerHandle

PATIENCE_SECONDS = 120.0
DETECTION_SECONDS = 10.0
"""Long: the machine that runs tests may be busy with others."""


class Worker:
    """One process of a role that listens on a Unix socket of its folder."""

    def __init__(self, folder: Path, role: str, name: str, **fields: Any) -> None:
        self.name, self.role = name, role
        self.address = f"unix:{folder / name}.sock"
        self._settings = folder / f"{name}.json"
        self._log_path = folder / f"{name}.log"
        common = {
            "role": role,
            "name": name,
            "socket_dir": str(folder),
            "discovery": {"file": str(folder / "peers.json"), "refresh_seconds": 0.2},
            "detection_seconds": DETECTION_SECONDS,
        }
        self._settings.write_text(json.dumps(common | fields))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def start(self) -> None:
        """Start it, again after a death."""
        with self._log_path.open("w") as log:
            command = [sys.executable, "-m", f"glm5_{self.role}", "--settings", str(self._settings)]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    async def ready(self) -> None:
        """Wait until `/readyz` says so."""
        await until(self._is_ready, lambda: f"{self.name} is not ready:\n{self.log[-3000:]}")

    async def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log[-3000:]}"
        if "admin=" not in self.log:
            return False
        with contextlib.suppress(httpx.HTTPError):
            return (await self.get("/readyz")).status_code == 200
        return False

    async def get(self, path: str) -> httpx.Response:
        """Ask the admin port."""
        found = re.search(r"admin=([^\s\"]+:\d+)", self.log)
        assert found, self.log
        async with httpx.AsyncClient(trust_env=False) as http:
            return await http.get(f"http://{found[1]}{path}", timeout=30)

    async def state(self) -> dict[str, Any]:
        return dict((await self.get("/v1/state")).json())

    async def metric(self, name: str) -> float:
        """Return the sum of all samples of a metric."""
        lines = (await self.get("/metrics")).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.split(r"[{ ]", line)[0] == name)

    async def uses(self, peer: str) -> bool:
        """Return whether it may use the peer of that name."""
        return any(p["name"] == peer and p["usable"] for p in (await self.state())["peers"])

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once and wait for the end."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    async def ended(self) -> int:
        """Wait for its end and return the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, PATIENCE_SECONDS)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[DecodeClient]:
        """Return a client of this decode worker."""
        channel = open_channel(self.address, DETECTION_SECONDS)
        try:
            handle = PeerHandle(peer_pb2.Peer(name=self.name), self.address, channel)
            yield DecodeClient(handle, DETECTION_SECONDS)
        finally:
            await channel.close()


async def until(condition: Callable[[], Any], words: Callable[[], str]) -> None:
    """Wait until `condition()`, which may be a coroutine function, holds."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                result = condition()
                if await result if asyncio.iscoroutine(result) else result:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(words()) from None


class Workers:
    """Processes that know each other by one file.

    Args:
        folder: for settings, sockets and logs.
        model: checkpoint folder.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.all: dict[str, Worker] = {}

    def __getitem__(self, name: str) -> Worker:
        return self.all[name]

    def add(self, role: str, name: str, **fields: Any) -> Worker:
        """Add a process; `start` starts it."""
        self.all[name] = Worker(
            self.folder, role, name, **({"model_path": str(self.model), "dtype": "float32"} | fields)
        )
        return self.all[name]

    async def start(self) -> None:
        """Start all and wait until each is ready."""
        peers = [{"role": worker.role, "address": worker.address} for worker in self.all.values()]
        (self.folder / "peers.json").write_text(json.dumps({"peers": peers}))
        for worker in self.all.values():
            worker.start()
        for worker in self.all.values():
            await worker.ready()

    def kill(self) -> None:
        """End all."""
        for worker in self.all.values():
            worker.kill()


@contextlib.contextmanager
def running(folder: Path, model: Path, prefill: bool = True, **decode: Any) -> Iterator[Workers]:
    """Yield two shards, a decode and perhaps a prefill worker that are ready; they are gone afterwards."""
    workers = Workers(folder, model)
    for shard in range(2):
        workers.add("experts", f"experts-{shard}", shard=shard, num_shards=2)
    if prefill:
        workers.add("prefill", "prefill-0", num_shards=2, cache_tokens=8192, expert_timeout_seconds=120)
    workers.add("decode", "decode-0", num_shards=2, **decode)
    try:
        asyncio.run(workers.start())
        yield workers
    finally:
        workers.kill()


class Answer:
    """What came of one request so far."""

    def __init__(self, message: decode_pb.GenerateRequest) -> None:
        self.message = message
        self.accepted: decode_pb.Accepted | None = None
        self.tokens: dict[int, list[int]] = {choice.index: [] for choice in message.choices}
        self.logprobs: dict[int, list[sampling_pb2.TokenLogprob]] = {choice.index: [] for choice in message.choices}
        self.prompt_logprobs: list[sampling_pb2.TokenLogprob] | None = None
        self.finished: dict[int, decode_pb.Finished] = {}
        self.progress: list[decode_pb.StepProgress] = []

    def note(self, event: decode_pb.GenerateResponse) -> None:
        """Take an event in, and check its order."""
        kind = event.WhichOneof("kind")
        assert (kind == "accepted") == (self.accepted is None), f"{kind} came out of order"
        if kind == "accepted":
            self.accepted = event.accepted
        elif kind == "tokens":
            self._note_tokens(event.tokens)
        elif kind == "finished":
            assert event.finished.choice not in self.finished
            self.finished[event.finished.choice] = event.finished
        elif kind == "prompt_logprobs":
            assert self.prompt_logprobs is None
            self.prompt_logprobs = list(event.prompt_logprobs.logprobs)
        else:
            self.progress.append(event.progress)

    def _note_tokens(self, batch: decode_pb.TokenBatch) -> None:
        delivered = next(len(c.output_token_ids) for c in self.message.choices if c.index == batch.choice)
        assert batch.first_index == delivered + len(self.tokens[batch.choice])
        assert batch.choice not in self.finished
        self.tokens[batch.choice] += batch.token_ids
        self.logprobs[batch.choice] += batch.logprobs


def generate_request(
    prompt: list[int], n: int = 1, outputs: dict[int, list[int]] | None = None, **sampling: Any
) -> decode_pb.GenerateRequest:
    """Return a request; greedy and without stop tokens unless `sampling` says otherwise."""
    neutral = {"temperature": 0, "top_p": 1, "repetition_penalty": 1, "max_tokens": 16, "ignore_eos": True}
    params = sampling_pb2.SamplingParams(**(neutral | sampling))
    delivered = outputs or {}
    choices = [decode_pb.Choice(index=i, output_token_ids=delivered.get(i, ()), sampling=params) for i in range(n)]
    return decode_pb.GenerateRequest(request_id=f"r{len(prompt)}", prompt_token_ids=prompt, choices=choices)


async def ask(client: DecodeClient, message: decode_pb.GenerateRequest, answer: Answer | None = None) -> Answer:
    """Return the whole answer to a request."""
    answer = answer or Answer(message)
    async with contextlib.aclosing(client.generate(message)) as events:  # type: ignore[type-var]
        async for event in events:
            answer.note(event)
    return answer
