"""Evaluation of samples: reference solutions, distances between samples, and comparisons of samplers."""
