"""Write a complete small checkpoint with random weights."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="DIR", help="folder to write; made where it is missing")
    parser.add_argument("--variant", choices=("5.0", "5.2"), default="5.0")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--fp8", action="store_true", help="block-FP8 weights with scales")
    parser.add_argument("--mtp", action="store_true", help="with the MTP layer")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    """Write it and say where."""
    from glm5_model.toy import write_toy

    write_toy(
        arguments.path,
        variant=arguments.variant,
        dtype=arguments.dtype,
        fp8=arguments.fp8,
        mtp=arguments.mtp,
        seed=arguments.seed,
    )
    print(f"{arguments.path}: GLM-{arguments.variant} toy, {arguments.dtype}{', FP8' if arguments.fp8 else ''}")
    return 0
