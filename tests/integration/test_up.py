"""`glm5 up` as a newcomer meets it: the table, the printed commands, the end."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from support_stack import GLM5, Stack, running_stack, wait_for

DEMO = Path(__file__).parents[2] / "examples" / "demo-model"


def printed_curl(stack: Stack) -> list[str]:
    """Return the curl command as `glm5 up` printed it."""
    match = re.search(r"^  (curl .*?\n.*?\n.*?)$", stack.log, re.M)
    assert match, stack.log[-2000:]
    return shlex.split(match[1].replace("\\\n", " "))


def test_the_table_names_every_process_and_what_it_holds(demo_stack: Stack) -> None:
    for name in demo_stack.names:
        assert name in demo_stack.log
    for words in ("experts 0-63", "experts 192-255", "MiB", "attention, router", "ready"):
        assert words in demo_stack.log
    assert len(demo_stack.names) == 8


def test_the_printed_curl_answers_sensibly(demo_stack: Stack) -> None:
    done = subprocess.run(printed_curl(demo_stack), capture_output=True, text=True, timeout=120, check=True)
    content = json.loads(done.stdout)["choices"][0]["message"]["content"]
    assert "expert" in content.lower(), content


def test_the_printed_chat_answers_and_keeps_the_history(demo_stack: Stack) -> None:
    command = [str(GLM5), "chat", "--url", demo_stack.url]
    done = subprocess.run(command, input="What is a shard?\n", capture_output=True, text=True, timeout=120, check=True)
    assert "expert" in done.stdout.lower(), done.stdout


def test_status_shows_the_same_processes(demo_stack: Stack) -> None:
    environment = os.environ | {"XDG_RUNTIME_DIR": str(demo_stack._run_dir.parents[1])}
    command = [str(GLM5), "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    states = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(state["name"] for state in states) == sorted(demo_stack.names)
    assert all(state["ready"] for state in states)


def test_bench_reports_percentiles(demo_stack: Stack, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [str(GLM5), "bench", "--url", demo_stack.url, "--clients", "2", "--requests", "4"]
    command += ["--output-tokens", "8", "--prompt-tokens", "8", "--json", str(report)]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    found = json.loads(report.read_text())
    assert (found["failed"], found["output_tokens"]) == (0, 32)
    assert found["time_to_first_token_seconds"]["p50"] > 0


def test_no_thread_of_a_process_takes_the_core_from_a_peer_that_wakes_it(demo_stack: Stack) -> None:
    for name in demo_stack.names:
        policies = set()
        for task in Path(f"/proc/{demo_stack.row(name)['pid']}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # gRPC ends a thread when it likes
                policies.add(os.sched_getscheduler(int(task.name)))
        assert policies == {os.SCHED_BATCH}, name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_leaves_no_process_no_port_and_no_folder(tmp_path: Path, number: signal.Signals) -> None:
    with running_stack(tmp_path, DEMO, "--decode", "1", "--experts", "2") as stack:
        rows = [stack.row(name) for name in stack.names]
        children = psutil.Process(stack.process.pid).children(recursive=True)
        assert {row["pid"] for row in rows} <= {child.pid for child in children}
        stack.process.send_signal(number)
        assert stack.process.wait(90) == 0, stack.log[-2000:]
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
        assert not stack._run_dir.exists()
        for row in rows:
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"http://{row['admin_address']}/livez", trust_env=False)


def test_a_killed_process_is_started_again_and_said_so(tmp_path: Path) -> None:
    with running_stack(tmp_path, DEMO, "--decode", "1", "--experts", "2") as stack:
        before = stack.row("decode-0")["pid"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: stack.row("decode-0")["pid"] not in (0, before), 60, "decode-0 did not come back")
        assert "decode-0 ended (signal SIGKILL); starting it again" in stack.log
        wait_for(lambda: ready(stack), 120, lambda: f"not ready again:\n{stack.log[-3000:]}")
        done = subprocess.run(printed_curl(stack), capture_output=True, text=True, timeout=120, check=True)
        assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def ready(stack: Stack) -> bool:
    """Return whether the worker is back and the gateway would serve: it looks once a second, so it may not know yet."""
    try:
        is_back = bool(stack.state("decode-0")["ready"])
        return is_back and httpx.get(f"{stack.url}/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "/nowhere"], "--model wants a Hugging Face checkpoint folder"),
        (["--set", "decode.nothing=1"], "decode has no nothing"),
        (["--experts", "0"], "--experts 0: at least 1"),
        (["-f", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(options: list[str], words: str) -> None:
    done = subprocess.run([str(GLM5), "up", *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_damaged_checkpoint_ends_up_with_the_fault(tmp_path: Path, toy: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in toy.iterdir():
        content = path.read_bytes()
        (damaged / path.name).write_bytes(content[: len(content) // 2] if path.suffix == ".safetensors" else content)
    stack = Stack(tmp_path / "run", damaged)
    try:
        assert stack.process.wait(120) == 1
        assert ".safetensors" in stack.log
        assert "Traceback" not in stack.log
    finally:
        stack.stop()
