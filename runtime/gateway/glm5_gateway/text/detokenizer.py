"""Token ids to text as they come, without ever emitting half a character."""

import codecs

from glm5_gateway.text.tokenizer import Tokenizer


class Detokenizer:
    """The text of one choice; the pieces joined are exactly `Tokenizer.text` of the whole."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._drop = tokenizer.special_ids if skip_special else frozenset()
        # Holds back at most 3 bytes of an unfinished character; bytes that can become none turn into U+FFFD.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes; empty while a character is unfinished."""
        if token_id in self._drop:
            return ""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return U+FFFD where the output ends inside a character, else nothing."""
        return self._decoder.decode(b"", final=True)
