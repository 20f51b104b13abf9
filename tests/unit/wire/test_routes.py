"""Who holds what, and what is missing, in words."""

from collections.abc import Sequence

import numpy as np

from glm5.v1 import peer_pb2
from glm5_wire.tensors.routes import NOBODY, Routes, in_words, runs


class Holder:
    def __init__(self, name: str, *ranges: tuple[int, int, int]) -> None:
        self.name = name
        self._ranges = [peer_pb2.ExpertRange(layer=layer, first=first, count=count) for layer, first, count in ranges]

    @property
    def holdings(self) -> Sequence[peer_pb2.ExpertRange]:
        return self._ranges


def holders(routes: Routes[Holder], layer: int, expert: int) -> list[str]:
    number = int(routes.of(layer, np.array([expert]))[0])
    return [holder.name for holder in routes.classes[number]]


def test_each_expert_has_the_holders_that_say_so() -> None:
    routes = Routes([Holder("a", (3, 0, 4)), Holder("b", (3, 4, 4)), Holder("c", (3, 2, 4), (4, 0, 8))])
    table = {expert: holders(routes, 3, expert) for expert in range(8)}
    assert table == {0: ["a"], 1: ["a"], 2: ["a", "c"], 3: ["a", "c"], 4: ["b", "c"], 5: ["b", "c"], 6: ["b"], 7: ["b"]}
    assert holders(routes, 4, 7) == ["c"]


def test_experts_with_the_same_holders_are_one_class() -> None:
    routes = Routes([Holder("a", (3, 0, 8)), Holder("b", (3, 0, 8), (4, 0, 8))])
    assert len(set(routes.of(3, np.arange(8)).tolist())) == 1
    assert len(routes.classes) == 3  # nobody, a and b, b


def test_unknown_layers_and_experts_have_no_holder() -> None:
    routes = Routes([Holder("a", (3, 0, 4))])
    assert routes.of(9, np.arange(3)).tolist() == [NOBODY] * 3
    assert routes.of(3, np.array([3, 4, 1000])).tolist()[1:] == [NOBODY] * 2
    assert Routes([]).of(3, np.arange(2)).tolist() == [NOBODY] * 2


def test_what_is_missing_is_said_in_words() -> None:
    routes = Routes([Holder("a", (3, 0, 4), (4, 0, 8)), Holder("b", (5, 4, 2))])
    missing = routes.missing([3, 4, 5], 8)
    assert missing == {3: [4, 5, 6, 7], 5: [0, 1, 2, 3, 6, 7]}
    assert in_words(missing) == "experts 4-7 of layers 3, experts 0-3,6-7 of layers 5"
    assert in_words(routes.missing([4], 8)) == ""


def test_numbers_are_written_as_runs() -> None:
    assert runs([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert runs([]) == ""
