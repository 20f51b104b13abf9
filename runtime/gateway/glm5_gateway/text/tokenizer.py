"""The checkpoint's own byte-level BPE tokenizer; the only place that knows how tokens become bytes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from glm5_wire.errors import InvalidRequest, StartupError


class Tokenizer:
    """Token ids from text, and bytes from token ids.

    Args:
        fast: the loaded `tokenizers` object.
        added: content of every added token by id, and whether it is special.
    """

    def __init__(self, fast: FastTokenizer, added: dict[int, tuple[str, bool]]) -> None:
        self._fast = fast
        self.special_ids = frozenset(i for i, (_, special) in added.items() if special)
        self.added_text = {i: content for i, (content, _) in added.items()}
        self.vocab_size: int = fast.get_vocab_size(with_added_tokens=True)
        self._bytes = _token_bytes(fast, self.added_text)

    @classmethod
    def from_dir(cls, path: str | Path) -> "Tokenizer":
        """Return the tokenizer of the checkpoint folder `path`.

        Raises:
            StartupError: tokenizer.json is missing, damaged, or not byte-level.
        """
        file = Path(path) / "tokenizer.json"
        try:
            raw = json.loads(file.read_bytes())
            fast = FastTokenizer.from_str(json.dumps(raw))
        except OSError as error:
            raise StartupError(
                f"cannot read tokenizer {file}: {error.strerror}; the folder is no checkpoint"
            ) from error
        except Exception as error:  # the Rust side raises bare Exception
            raise StartupError(f"cannot use tokenizer {file}: {error}; copy the file again") from error
        if "ByteLevel" not in json.dumps(raw.get("decoder")):
            raise StartupError(f"cannot use tokenizer {file}: its decoder is not ByteLevel; GLM-5 tokenizers are")
        return cls(fast, {t["id"]: (t["content"], bool(t["special"])) for t in raw.get("added_tokens", [])})

    def encode(self, text: str, *, add_special_tokens: bool = False, param: str = "prompt") -> list[int]:
        """Return the token ids of `text`.

        Raises:
            InvalidRequest: the text holds code points that are no characters (lone surrogates).
        """
        if not _is_utf8(text):
            raise InvalidRequest(
                "the text is not valid Unicode", "", "it holds a lone surrogate", "send well-formed UTF-8", param=param
            )
        ids: list[int] = self._fast.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token; empty for an id that only the model's vocabulary has."""
        return self._bytes.get(token_id, b"")

    def text(self, token_ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Return the text of a whole sequence; bytes that are no UTF-8 become U+FFFD."""
        drop = self.special_ids if skip_special else frozenset()
        return b"".join(self.token_bytes(i) for i in token_ids if i not in drop).decode("utf-8", "replace")


def _is_utf8(text: str) -> bool:
    """Return whether `text` can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _token_bytes(fast: FastTokenizer, added: dict[int, str]) -> dict[int, bytes]:
    """Return the bytes of every token, by the rule of the ByteLevel decoder."""
    alphabet = _byte_alphabet()
    vocabulary: dict[str, Any] = fast.get_vocab(with_added_tokens=True)
    table = {token_id: _bytes_of(token, alphabet) for token, token_id in vocabulary.items()}
    return table | {token_id: _bytes_of(content, alphabet) for token_id, content in added.items()}


def _bytes_of(token: str, alphabet: dict[str, int]) -> bytes:
    """Return the bytes that a token's characters stand for; one with a foreign character stands for itself."""
    if all(character in alphabet for character in token):
        return bytes(alphabet[character] for character in token)
    return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """Return the character that GPT-2's byte-level alphabet gives to each byte, the other way round."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(b): b for b in visible} | {chr(256 + n): b for n, b in enumerate(hidden)}
