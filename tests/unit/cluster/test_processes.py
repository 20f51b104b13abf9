"""What a test starts ends with the test process, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from cluster.processes import Process

PATIENCE_SECONDS = 60.0
PARENT = """
import sys, threading
from pathlib import Path
from cluster.processes import Process
folder = Path(sys.argv[1])
started = []
thread = threading.Thread(target=lambda: started.append(Process("child", ["sleep", "1000"], folder / "log", folder)))
thread.start()
thread.join()
print(started[0].pid, flush=True)
sys.stdin.read()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_a_child_outlives_the_thread_that_asked_for_it_and_ends_with_the_process(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": tests}
    ) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        assert runs(child)

        parent.kill()

    until = time.monotonic() + PATIENCE_SECONDS
    while runs(child):
        assert time.monotonic() < until, "the child still runs"
        time.sleep(0.05)


def test_a_process_that_ignores_the_polite_end_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = Process("stubborn", [sys.executable, "-c", STUBBORN], log, tmp_path)
    until = time.monotonic() + PATIENCE_SECONDS
    while "ready" not in process.tail():
        assert time.monotonic() < until
        time.sleep(0.05)

    process.end(grace_seconds=0.5)

    assert process.code == -9


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
