"""tokenizer.json and tokenizer_config.json: byte-level BPE with GLM's added tokens, written as plain JSON."""

from collections.abc import Sequence
from typing import Any

# In the order of their ids on the real models, where <|endoftext|> is 154820.
SPECIAL_TOKENS = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
    "<|begin_of_transcription|>",
    "<|end_of_transcription|>",
    "<|code_prefix|>",
    "<|code_middle|>",
    "<|code_suffix|>",
]
# Added, but not special: they survive skip_special_tokens.
MARKUP_TOKENS = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "/nothink",
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<|image|>",
    "<|video|>",
]
ADDED_TOKENS = (*SPECIAL_TOKENS, *MARKUP_TOKENS)
STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")

PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
Merges = Sequence[tuple[str, str]]


def byte_characters() -> list[str]:
    """Return the printable character that stands for each of the 256 bytes in byte-level BPE."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    code = {byte: byte for byte in printable} | {byte: 256 + i for i, byte in enumerate(others)}
    return [chr(code[byte]) for byte in range(256)]


def num_tokens(merges: Merges = ()) -> int:
    """Return how many ids the tokenizer gives out."""
    return 256 + len(merges) + len(ADDED_TOKENS)


def token_id(token: str, merges: Merges = ()) -> int:
    """Return the id of an added token: 256 bytes and the merges come before them."""
    return 256 + len(merges) + ADDED_TOKENS.index(token)


def stop_ids(merges: Merges = ()) -> list[int]:
    """Return the ids that end a turn: <|endoftext|>, <|user|>, <|observation|>."""
    return [token_id(token, merges) for token in STOP_TOKENS]


def tokenizer_json(merges: Merges = ()) -> dict[str, Any]:
    """Return tokenizer.json.

    Args:
        merges: pairs of byte-level strings, in order of priority; merge i makes token 256 + i. None: every byte is a
            token, and its id is its value.
    """
    tokens = byte_characters() + [left + right for left, right in merges]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token, merges) for token in ADDED_TOKENS],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [list(pair) for pair in merges],
        },
    }


def _added(token: str, merges: Merges) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token_id(token, merges), "content": token, **plain, "special": token in SPECIAL_TOKENS}


def tokenizer_config_json(max_length: int) -> dict[str, Any]:
    """Return tokenizer_config.json; `max_length` in tokens."""
    return {
        "backend": "tokenizers",
        "clean_up_tokenization_spaces": False,
        "do_lower_case": False,
        "eos_token": "<|endoftext|>",
        "extra_special_tokens": SPECIAL_TOKENS,
        "model_max_length": max_length,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "remove_space": False,
        "tokenizer_class": "TokenizersBackend",
    }
