"""The gateway's OpenAPI document against the running gateway: no 5xx, no undocumented status."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support_stack import Stack, running_stack, wait_for

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, toy: Path) -> Iterator[Stack]:
    """A toy whose longest answers are short, with keys."""
    folder = tmp_path_factory.mktemp("contract")
    keys = folder / "keys"
    keys.write_text("secret\n")
    roles = ("--dtype", "float32", "--decode", "1", "--prefill", "1", "--experts", "2", "--api-key-file", str(keys))
    room = ("--set", "decode.cache_tokens=128", "--set", "prefill.cache_tokens=128")
    # 128 prompts at once are a 429 here, not minutes of work.
    queue = ("--set", "gateway.max_running=4", "--set", "gateway.max_queue=4")
    with running_stack(folder, toy, *roles, *room, *queue) as running:
        yield running


def http(stack: Stack) -> httpx.Client:
    headers = {"authorization": "Bearer secret"}
    return httpx.Client(base_url=stack.url, headers=headers, timeout=240, trust_env=False)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_schemathesis_finds_no_server_error_and_no_undocumented_status(stack: Stack, tmp_path: Path) -> None:
    with http(stack) as client:
        wait_for(lambda: client.get("/ready").status_code == 200, 240, "the stack is not ready")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{stack.url}/openapi.json", "--checks", CHECKS]
    # One worker: CPython 3.11 keeps one depth counter for all threads that parse source. hypothesis parses source, and
    # its callback of the garbage collector lets threads take turns meanwhile ("recursion depth mismatch").
    options = ["--max-examples", "15", "--phases", "examples,coverage,fuzzing", "--seed", "7", "--workers", "1"]
    options += ["--request-timeout", "240", "--generation-database", "none", "--header", "Authorization: Bearer secret"]
    options += ["--suppress-health-check", "all", "--no-color"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, timeout=2300, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_room_of_the_workers_is_the_longest_context(stack: Stack) -> None:
    with http(stack) as client:
        length = client.get("/v1/models").json()["data"][0]["max_model_len"]
        long = client.post("/v1/completions", json={"prompt": [1] * 100, "max_tokens": 100})
        fits = client.post("/v1/completions", json={"prompt": [1] * 100, "max_tokens": 2, "temperature": 0})
    assert length <= 128
    assert long.status_code == 400
    assert f"{length} tokens" in long.json()["error"]["message"]
    assert fits.status_code == 200


def test_without_a_key_nothing_is_answered_but_probes(stack: Stack) -> None:
    bare = httpx.Client(base_url=stack.url, timeout=60, trust_env=False)
    with bare as client:
        assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 401
        assert client.get("/metrics").status_code == 401
        assert client.get("/health").status_code == 200


def test_a_running_gateway_has_mapped_no_torch_and_no_numpy(stack: Stack) -> None:
    maps = Path(f"/proc/{stack.row('gateway-0')['pid']}/maps").read_text()
    assert "python" in maps
    assert "torch" not in maps
    assert "numpy" not in maps
