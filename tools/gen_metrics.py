"""Writes docs/metrics.md from the metrics that the rooms declare; with --check only compares."""

import importlib
import pkgutil
import sys
from pathlib import Path

from glm5_wire.metrics import DECLARED, Declared

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
ROOMS = {
    "glm5_gateway": "Gateway",
    "glm5_decode": "Decode",
    "glm5_prefill": "Prefill",
    "glm5_engine": "Decode and prefill: the engine",
    "glm5_experts": "Experts",
    "glm5_wire": "Every role, where it applies",
}
HEAD = """# Metrics

Every role serves Prometheus metrics at `/metrics` on its admin port, the gateway also on its HTTP port. Names carry
their unit: `_seconds`, `_bytes`, `_total` for counts. Names that begin with `vllm:` mean what they mean in vLLM, so
that its dashboards and autoscalers work. `process_*` and `python_info` are those of the Prometheus client.

This page is written by `tools/gen_metrics.py` from the code; a test compares the two.
"""


def declared() -> list[Declared]:
    """Return what all rooms declare; imports every module of theirs."""
    for room in ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return sorted(DECLARED.values(), key=lambda metric: metric.name)


def page() -> str:
    """Return the text of the page."""
    metrics = declared()
    unknown = {metric.room for metric in metrics} - set(ROOMS)
    if unknown:
        raise SystemExit(f"gen_metrics: metrics of unknown rooms {sorted(unknown)}; add them to ROOMS")
    return HEAD + "".join(_section(title, [m for m in metrics if m.room == room]) for room, title in ROOMS.items())


def _section(title: str, metrics: list[Declared]) -> str:
    if not metrics:
        return ""
    rows = "".join(
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels) or '-'} | {m.meaning} |\n"
        for m in metrics
    )
    return f"\n## {title}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n{rows}"


def main() -> int:
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print("docs/metrics.md differs from the code; run tools/gen_metrics.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
