"""What is trained when: first everything, then copying from the prompt, then what is rare."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of steps on one mix of dialogs, with a learning rate that falls linearly to 2 %."""

    steps: int
    rate: float
    mix: tuple[int, int, int, int]
    """Shares of plain questions, questions with tools that are not needed, calls, and answers after calls."""
    requests: tuple[str, ...]
    """Kinds of requests for tools, drawn evenly."""


_ALL = ("weather", "weather", "two_cities", "time", "add", "add", "both")
STAGES = (
    Stage(800, 2.0e-3, (50, 6, 24, 20), _ALL),
    Stage(700, 1.5e-3, (28, 4, 40, 28), _ALL),
    Stage(330, 1.0e-3, (45, 4, 34, 17), ("weather", "two_cities", "two_cities", "two_cities", "time", "add", "both")),
)
