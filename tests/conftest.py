"""Property-based tests try the same examples in every run; `--hypothesis-profile explore` looks for new ones."""

import os

from hypothesis import settings

os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiling takes longer than these runs

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False, max_examples=500)
settings.load_profile("repeatable")
