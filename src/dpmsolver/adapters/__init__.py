"""Adapters to other libraries, one for each."""
