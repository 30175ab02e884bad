"""The outside world: one adapter per ecosystem."""
