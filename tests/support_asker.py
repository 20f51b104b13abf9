"""Questions about a toy model, the pod of the cluster that asks them, and the answers that `glm5 up` gives."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import support_pods as pods
from cluster import cache, images, kind_cluster, shell
from support_kind import Object, apply
from support_stack import running_stack

SCRIPT = (Path(__file__).parent / "e2e" / "files" / "asker.py").read_text()
ANSWERS = "answers.json"
MODEL = "toy"
ONCE = {"plain": 1, "sse": 1, "grpc": 1, "grpc-stream": 1}
LONG, WIDE = 40, 500
"""Tokens of the longest answer, and of the longest prompt, which is the last."""
Tokens = list[int]


def questions(count: int) -> list[Object]:
    """Return bodies of /v1/completions: short and long prompts with their seeds; the first answer is long.

    The last prompt is so long that prefill workers, which have done with the others at once, are busy with it.
    """
    generator = random.Random(5)
    narrow = [(3 + number * 37 % 190, 2 + number % 5 if number else LONG) for number in range(count - 1)]
    return [_question(generator, number, *sizes) for number, sizes in enumerate([*narrow, (WIDE, 2)])]


def _question(generator: random.Random, seed: int, length: int, max_tokens: int) -> Object:
    prompt = [generator.randrange(256) for _ in range(length)]
    fields = {"temperature": 0.8, "ignore_eos": True, "return_token_ids": True}
    return {"model": MODEL, "prompt": prompt, "seed": seed, "max_tokens": max_tokens, **fields}


@dataclass(frozen=True, slots=True)
class Said:
    """One answer as the asker wrote it down."""

    way: str
    question: int
    begun: float
    seconds: float
    tokens: tuple[int, ...] = ()
    finish: str = ""
    error: str = ""


QUESTIONS = questions(14)
"""Asked by every test, so that there is one reference for each model."""


def read(text: str) -> list[Said]:
    """Return what an asker printed; lines of libraries are among it."""
    return [_said(json.loads(line)) for line in text.splitlines() if line.startswith("{")]


def _said(one: dict[str, Any]) -> Said:
    return Said(**one | {"tokens": tuple(one.get("tokens", ()))})


def reference(model: Path, asked: list[Object]) -> list[Tokens]:
    """Return the tokens with which `glm5 up` on this machine answers each question; asked once per build of images."""
    inputs = [images.identity("runtime", "gateway"), model, SCRIPT, json.dumps(asked)]
    folder = cache.artifact("answers", inputs, lambda draft: _write_answers(draft, model, asked))
    tokens: list[Tokens] = json.loads((folder / ANSWERS).read_text())
    return tokens


def _write_answers(folder: Path, model: Path, asked: list[Object]) -> None:
    # One shard and one decode worker: where the work is done changes no token.
    layout = ("--dtype", "float32", "--experts", "1", "--decode", "1")
    with tempfile.TemporaryDirectory() as home, running_stack(Path(home), model, *layout) as stack:
        mine = [{**body, "model": model.name} for body in asked]
        address = stack.url.removeprefix("http://")
        plan = {"http": address, "grpc": stack.grpc_address, "questions": mine, "ways": {"sse": 1}, "times": len(mine)}
        command = [sys.executable, "-c", SCRIPT, json.dumps(plan)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    found = {one.question: one for one in read(done.stdout)}
    assert [found[number].error for number in range(len(asked))] == [""] * len(asked)
    (folder / ANSWERS).write_text(json.dumps([list(found[number].tokens) for number in range(len(asked))]))


def pod(name: str, namespace: str, plan: Object, **labels: str) -> Object:
    """Return a pod that carries out a plan."""
    made: Any = pods.pod(name, namespace, **labels)
    container = made["spec"]["containers"][0]
    container |= {"image": images.tag("gateway"), "command": ["python3", "-c", SCRIPT, json.dumps(plan)]}
    made["spec"] |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 60}
    return dict(made)


def ask_once(namespace: str, service: str, asked: list[Object]) -> list[Said]:
    """Return the answers of a deployment to each question in each way, asked from a pod of the namespace."""
    plan = {"http": service, "grpc": f"{service}:9000", "questions": asked, "ways": ONCE, "times": len(asked)}
    name = "asker"
    apply(pod(name, namespace, plan))
    done = ["wait", "-n", namespace, f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=600s"]
    kind_cluster.kubectl(*done, timeout_seconds=11 * shell.MINUTE)
    said = read(kind_cluster.kubectl("logs", "-n", namespace, name))
    kind_cluster.kubectl("delete", "pod", "-n", namespace, name)
    return said
