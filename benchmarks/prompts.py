"""The same prompts for every system: token ids of plain bytes, none shared between clients."""

PROMPT_TOKENS = 128
OUTPUT_TOKENS = 64
CLIENTS = (1, 8, 32)


def prompts(clients: int, run: int) -> list[list[int]]:
    """Return one prompt a client; other runs have other prompts, so that no cache helps."""
    return [
        [((client + run * 100) * 7 + position * 13) % 200 + 20 for position in range(PROMPT_TOKENS)]
        for client in range(clients)
    ]
