"""Philox4x32-10 in plain integers: the same draws on every machine, library and batch.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11); the vectors of Random123 are in the tests.
"""

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

Words4 = tuple[int, int, int, int]


def philox4x32(counter: Words4, key: tuple[int, int]) -> Words4:
    """Return four 32-bit words that depend on nothing but four words of counter and two of key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (product1 >> 32) ^ c1 ^ k0, product1 & _MASK, (product0 >> 32) ^ c3 ^ k1, product0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seed: int, choice: int, index: int) -> float:
    """Return the draw in [0, 1) for output token `index` of `choice` under `seed`, with 53 random bits.

    Args:
        seed: 64 bits, the key.
        choice: index of the choice, the third word of the counter.
        index: index of the token in the choice's output, the first two words of the counter.
    """
    counter = (index & _MASK, index >> 32 & _MASK, choice & _MASK, 0)
    high, low, _, _ = philox4x32(counter, (seed & _MASK, seed >> 32 & _MASK))
    return ((high << 32 | low) >> 11) * 2.0**-53
