"""Fixtures for all tests."""

import os

# Two noisy cores: one thread of mathematics for each process, here and in everything that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
