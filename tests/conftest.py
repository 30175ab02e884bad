"""Property-based tests try the same examples in every run; `--hypothesis-profile explore` looks for new ones."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False, max_examples=500)
settings.load_profile("repeatable")
