"""`python -m glm5_model.toy DIR`: write a toy checkpoint. `glm5 toy` calls `write_toy` with the same options."""

import argparse
import sys

from glm5_model.toy.config import VARIANTS
from glm5_model.toy.errors import ToyError
from glm5_model.toy.write import DTYPES, write_toy


def main(arguments: list[str] | None = None) -> int:
    """Write the toy and return the exit code: 0, or 2 with one line on stderr that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m glm5_model.toy", description="Write a toy checkpoint.")
    parser.add_argument("path", metavar="DIR", help="a new or empty folder")
    parser.add_argument("--variant", choices=VARIANTS, default="5.0")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--fp8", action="store_true", help="store the large weights in block-FP8")
    parser.add_argument("--mtp", action="store_true", help="add the next-token-prediction layer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", action="append", default=[], metavar="NAME=N", help="for example index_topk=32")
    given = parser.parse_args(arguments)
    try:
        write_toy(given.path, given.variant, given.dtype, given.fp8, given.mtp, given.seed, **_sizes(given.size))
    except (ToyError, OSError) as error:
        sys.stderr.write(f"glm5 toy: {error}\n")
        return 2
    return 0


def _sizes(pairs: list[str]) -> dict[str, int]:
    sizes = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not value.isdecimal():
            raise ToyError(f"--size {pair!r} is not NAME=N with a whole number N.")
        sizes[name] = int(value)
    return sizes


if __name__ == "__main__":
    sys.exit(main())
