"""Fixtures for all tests."""

import os

from hypothesis import settings

# Two noisy cores: one thread of mathematics for each process, here and in everything that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The same examples in every run: what a random one finds belongs to whoever looks for it (HYPOTHESIS_PROFILE=random),
# not to whoever happens to land a change.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
