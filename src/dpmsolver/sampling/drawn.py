"""Draw a run as a picture: its states, or the data that the network predicts on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from dpmsolver.drawing import BLUE, sized
from dpmsolver.errors import PlanError, unknown
from dpmsolver.host import to_host
from dpmsolver.sampling.execution import State
from dpmsolver.schedules import Floats

__all__ = ["plot_trajectory"]


def plot_trajectory(
    states: Iterable[State[Any]],
    show: Literal["x", "denoised"] = "denoised",
    *,
    samples: int = 4,
    columns: int = 10,
    value_range: tuple[float, float] = (-1.0, 1.0),
    decode: Callable[[Any], Any] | None = None,
    figure: Any = None,
) -> Any:
    """Draw the states of a run, or the data that the network predicts from them: `plot_trajectory(dpm.iterate(denoiser, x_T, nfe=10))`.

    Pictures (B, C, H, W) with 1 or 3 channels form one row per sample, from noise to data. Points of the plane (B, 2) are drawn as paths
    with a mark at the end. Anything else is flattened, and each number becomes a curve over the evaluations.

    Args:
        states: what `dpm.iterate` yields, at least two.
        show: "denoised", the predicted x_0, or "x", the state.
        samples: the number of samples that are drawn, the first of the batch; for points and curves, 32 times that number.
        columns: the largest number of states in a row of pictures, the first and the last included.
        value_range: the values of black and of white in pictures.
        decode: a function that turns what is shown into pictures, such as `lambda z: vae.decode(z / scale).sample` for latents: (samples,
            …) to pictures.
        figure: a figure of matplotlib to draw into; by default a new one of pyplot.

    Returns:
        The figure: `figure.savefig("run.png")`.

    Raises:
        PlanError: an unknown `show`, fewer than two states, or samples or columns below 1.
        ImportError: matplotlib is not installed.

    Examples:
        >>> import numpy as np, dpmsolver as dpm
        >>> denoiser = dpm.models.Gaussian(mean=[1.0, 0.0], variance=[0.1, 0.1]).denoiser(dpm.schedules.LinearVP())
        >>> x_T = dpm.initial_noise(denoiser.schedule, (8, 2))
        >>> figure = dpm.plot_trajectory(dpm.iterate(denoiser, x_T, nfe=10))
        >>> len(figure.axes)
        1
    """
    if show not in ("x", "denoised"):
        raise PlanError(unknown("show", show, ("x", "denoised")))
    for name, value in (("samples", samples), ("columns", columns)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PlanError(f"{name} must be an integer >= 1, got {value!r}")
    run = list(states)
    if len(run) < 2 or not all(isinstance(state, State) for state in run):
        raise PlanError(
            "states must be what dpm.iterate(…) yields, two of them or more: a run that was not used up before"
        )
    arrays = [getattr(state, show) for state in run]
    pictures = decode is not None or _are_pictures(arrays[0].shape)
    if pictures and len(run) > columns:
        kept = np.unique(np.linspace(0, len(run) - 1, columns).round().astype(int))
        run, arrays = [run[k] for k in kept], [arrays[k] for k in kept]
    first = samples if pictures else 32 * samples
    values = [to_host(array[:first] if decode is None else decode(array[:first])) for array in arrays]
    if pictures and not _are_pictures(values[0].shape):
        raise PlanError(f"decode must return pictures (samples, C, H, W) with C 1 or 3, got shape {values[0].shape}")
    if pictures:
        return _draw_pictures(values, run, value_range, figure)
    flat = np.array([each.reshape(len(each), -1) for each in values])
    return _draw_paths(flat, show, figure) if flat.shape[2] == 2 else _draw_curves(flat, run, show, figure)


def _are_pictures(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and shape[1] in (1, 3)


def _draw_pictures(values: list[Floats], run: list[State[Any]], value_range: tuple[float, float], figure: Any) -> Any:
    """A row for each sample, a column for each state."""
    low, high = value_range
    rows, columns = len(values[0]), len(values)
    figure = sized(figure, 1.1 * columns, 1.1 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False)
    for column, (batch, state) in enumerate(zip(values, run, strict=True)):
        axes[0, column].set_title(f"t={state.time:.3g}", fontsize=8)
        for row, picture in enumerate(batch):
            shown = np.clip((picture - low) / (high - low), 0.0, 1.0).transpose(1, 2, 0)
            axes[row, column].imshow(shown[:, :, 0] if shown.shape[2] == 1 else shown, cmap="gray", vmin=0.0, vmax=1.0)
            axes[row, column].axis("off")
    return figure


def _draw_paths(flat: Floats, show: str, figure: Any) -> Any:
    """Paths (states, samples, 2) in the plane: thin from where they start, with a mark where they end."""
    figure = sized(figure, 5.0, 5.0)
    axes = figure.subplots()
    axes.plot(flat[:, :, 0], flat[:, :, 1], "-", color="0.6", linewidth=0.7)
    axes.plot(flat[:-1, :, 0].ravel(), flat[:-1, :, 1].ravel(), ".", color="0.6", markersize=2)
    axes.plot(flat[-1, :, 0], flat[-1, :, 1], "o", color=BLUE, markersize=4)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title("predicted data on the way" if show == "denoised" else "states")
    return figure


def _draw_curves(flat: Floats, run: list[State[Any]], show: str, figure: Any) -> Any:
    """Curves of (states, samples, numbers): as many numbers of each sample as make 128 curves."""
    figure = sized(figure, 6.0, 3.5)
    axes = figure.subplots()
    numbers = max(1, 128 // flat.shape[1])
    axes.plot(
        [state.index for state in run],
        flat[:, :, :numbers].reshape(len(flat), -1),
        "-",
        color=BLUE,
        linewidth=0.7,
        alpha=0.5,
    )
    axes.set_xlabel("evaluation")
    axes.set_ylabel("predicted data" if show == "denoised" else "state")
    axes.grid(alpha=0.3)
    return figure
