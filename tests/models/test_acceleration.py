"""A compiled network is compiled once, for whatever batches come after the first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dpmsolver.models.acceleration import compiled_network


def test_smaller_batches_and_single_times_reach_the_compiler_in_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def network(x: torch.Tensor, t: torch.Tensor, *, class_labels: torch.Tensor) -> torch.Tensor:
        return x * (1.0 + t[:, None] + class_labels[:, None])

    def recorded(function: Any, **options: Any) -> Any:
        def run(x: torch.Tensor, t: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            seen.append((tuple(x.shape), tuple(t.shape), *(tuple(value.shape) for value in kwargs.values())))
            return function(x, t, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", recorded)
    fast, x, labels = compiled_network(network), torch.randn(6, 3), torch.arange(6)
    for size, t in (
        (6, torch.full((6,), 0.5)),
        (2, torch.tensor([0.5, 0.25])),
        (5, torch.tensor([0.3])),
        (1, torch.tensor(0.2)),
    ):
        found = fast(x[:size], t, class_labels=labels[:size])
        assert torch.equal(found, network(x[:size], t.expand(size), class_labels=labels[:size]))
    assert set(seen) == {((6, 3), (6,), (6,))}
