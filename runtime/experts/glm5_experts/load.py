"""How many rows each expert has had: a metric now, the input of placement later."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from glm5_experts.work import Work


class Load:
    """Counters per (layer, expert). Belongs to the event loop."""

    def __init__(self, held: dict[int, tuple[int, ...]], num_experts: int) -> None:
        self._held = held
        self._counts: dict[int, npt.NDArray[np.int64]] = {
            layer: np.zeros(num_experts, dtype=np.int64) for layer in held
        }

    def add(self, works: list[Work]) -> None:
        """Count the pairs of a product."""
        counts = self._counts[works[0].layer]
        for work in works:
            counts += np.bincount(work.pair_experts, minlength=len(counts))

    def samples(self) -> Iterator[tuple[tuple[str, str], float]]:
        """Yield the labels (layer, expert) and the rows so far of each expert held."""
        for layer, experts in self._held.items():
            for expert in experts:
                yield (str(layer), str(expert)), float(self._counts[layer][expert])
