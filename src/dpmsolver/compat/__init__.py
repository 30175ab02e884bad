"""Other projects' calls, word for word: a script changes its import alone, and runs on plans and denoisers."""
