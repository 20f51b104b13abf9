"""The table of processes that `glm5 up` and `glm5 status` print."""

from rich.table import Table

from glm5_cli.rundir import Running
from glm5_spec.admin import Holding, RoleState


def process_table(rows: list[tuple[Running, RoleState | None]], http_url: str) -> Table:
    """Return role, pid, address, memory and what each process holds."""
    table = Table("role", "name", "pid", "address", "memory", "state", "holds", title=None)
    for running, state in rows:
        table.add_row(
            running.role,
            running.name,
            str(running.pid or "-"),
            running.grpc_address,
            f"{state.memory_bytes / 2**20:,.0f} MiB" if state else "-",
            state_word(state),
            holds(state, http_url),
        )
    return table


def state_word(state: RoleState | None) -> str:
    """Return one word, and why where it is not `ready`."""
    if state is None:
        return "no answer"
    if state.draining:
        return "draining"
    return "ready" if state.ready else f"not ready: {state.reason}"


def holds(state: RoleState | None, http_url: str) -> str:
    """Return in words what the process holds."""
    if state is None:
        return "-"
    if state.role == "gateway":
        return f"tokenizer, {http_url}"
    if state.role == "experts":
        return f"experts {experts_text(state.holdings)}"
    return "attention, router, shared experts"


def experts_text(holdings: list[Holding]) -> str:
    """Return `0-63` where every layer has the same experts, else `varies`."""
    by_layer: dict[int, list[str]] = {}
    for holding in holdings:
        text = f"{holding.first}-{holding.first + holding.count - 1}"
        by_layer.setdefault(holding.layer, []).append(text)
    texts = {", ".join(ranges) for ranges in by_layer.values()}
    if not texts:
        return "none yet"
    return texts.pop() + f" of {len(by_layer)} layers" if len(texts) == 1 else "varies"
