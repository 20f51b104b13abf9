"""Percentiles of a load: time to first token, inter-token latency, throughput."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from glm5_cli.load import Outcome

PERCENTILES = (50, 90, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which `percent` of the values lie (nearest rank); 0 of nothing."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def report(outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    """Return counts, rates (per second) and percentiles (in seconds)."""
    good = [outcome for outcome in outcomes if not outcome.error]
    first = [outcome.token_times[0] - outcome.sent for outcome in good if outcome.token_times]
    between = [b - a for outcome in good for a, b in zip(outcome.token_times, outcome.token_times[1:], strict=False)]
    whole = [outcome.ended - outcome.sent for outcome in good]
    tokens = sum(len(outcome.token_times) for outcome in good)
    return {
        "requests": len(outcomes),
        "failed": len(outcomes) - len(good),
        "seconds": seconds,
        "output_tokens": tokens,
        "output_tokens_per_second": tokens / seconds,
        "requests_per_second": len(good) / seconds,
        "time_to_first_token_seconds": _percentiles(first),
        "inter_token_latency_seconds": _percentiles(between),
        "request_seconds": _percentiles(whole),
    }


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{percent}": percentile(values, percent) for percent in PERCENTILES}


def report_table(found: dict[str, Any]) -> Table:
    """Return the report as a table, times in milliseconds."""
    table = Table("figure", *(f"p{percent}" for percent in PERCENTILES), "all")
    for key in ("time_to_first_token", "inter_token_latency", "request"):
        row = found[f"{key}_seconds"]
        table.add_row(f"{key.replace('_', ' ')} [ms]", *(f"{row[f'p{p}'] * 1000:,.1f}" for p in PERCENTILES), "")
    blanks = [""] * len(PERCENTILES)
    table.add_row("output tokens/s", *blanks, f"{found['output_tokens_per_second']:,.1f}")
    table.add_row("requests/s", *blanks, f"{found['requests_per_second']:,.2f}")
    table.add_row("requests (failed)", *blanks, f"{found['requests']} ({found['failed']})")
    return table
