"""Export a network to ONNX, for examples/onnx_plan.py: the embedded digits, or a folder in diffusers format.

    python export_onnx.py digits.onnx [--model digits]

The batch is dynamic. Inputs: x (B, …) float32, t (B,) float32, for a model with classes also y (B,) int64. Output: what it predicts.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import dpmsolver as dpm


def export(network: torch.nn.Module, shape: tuple[int, ...], path: Path, *, classes: bool = False) -> Path:
    """Write a network (x, t) -> output to a file; `shape` is that of one sample. With classes it takes (x, t, y)."""
    batch = torch.export.Dim("batch")
    example = (torch.zeros(3, *shape), torch.zeros(3), *[torch.zeros(3, dtype=torch.int64)] * classes)
    program = torch.onnx.export(
        network,
        example,
        dynamo=True,
        dynamic_shapes=tuple({0: batch} for _ in example),
        input_names=["x", "t", "y"][: len(example)],
        output_names=["prediction"],
        verbose=False,
    )
    assert program is not None
    program.save(str(path))
    return path


class Called(torch.nn.Module):
    """The network of a loaded model as a module, whose weights an export writes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.module, self.network = model.network.module, model.network

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return self.network(x, t) if y is None else self.network(x, t, class_labels=y)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="digits")
    given = parser.parse_args(arguments)
    model = dpm.models.load(given.model)
    export(Called(model).eval(), model.shape, given.out, classes=model.num_classes is not None)


if __name__ == "__main__":
    main()
