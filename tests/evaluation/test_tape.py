"""Tapes: what a network said before a run was stopped is said again, exactly, and never in answer to another question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmsolver.evaluation import tape as module
from dpmsolver.evaluation.tape import Tape

X, T = np.linspace(-1.0, 1.0, 6).reshape(3, 2), np.full(3, 500.0)


class Network:
    """Doubles, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Any, t: Any) -> Any:
        self.calls += 1
        return 2.0 * x


def run(folder: Path, steps: int, x: Any = X, like: Any = X) -> tuple[Any, Tape, Network]:
    tape, network = Tape(folder, like), Network()
    for _ in range(steps):
        x = tape(network, x, T)
    return x, tape, network


def test_what_was_kept_is_not_evaluated_again(tmp_path: Path) -> None:
    """Also what several processes kept, one after the other; the seconds that they spent are told."""
    _, first, _ = run(tmp_path, 3)
    first.write()
    _, second, network = run(tmp_path, 5)
    assert (network.calls, second.replaying) == (2, False)
    second.write()
    x, third, network = run(tmp_path, 7)
    assert (third.kept, network.calls) == (5, 2)
    assert third.seconds > 0.0
    assert x.tolist() == (2.0**7 * X).tolist()


def test_it_writes_by_itself_every_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed cannot write at its end: what it had written by then is there."""
    monkeypatch.setattr(module, "EVERY", 0.0)
    run(tmp_path, 4)
    assert Tape(tmp_path, X).kept == 4


def test_much_is_written_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast network of large states does not fill the memory."""
    monkeypatch.setattr(module, "_LARGEST", 100)
    run(tmp_path, 4)  # of 48 bytes each
    assert Tape(tmp_path, X).kept == 3


def test_another_input_ends_the_replay(tmp_path: Path) -> None:
    """A tape of another plan or noise, or of another version of the library, is dropped: what comes out is what the network says."""
    _, first, _ = run(tmp_path, 3)
    first.write()
    x, other, network = run(tmp_path, 3, x=X + 1.0)
    assert (network.calls, other.kept) == (3, 0)
    assert x.tolist() == (8.0 * (X + 1.0)).tolist()


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_outputs_come_back_without_loss(tmp_path: Path, kind: str) -> None:
    """A network in half precision, in a run of float32, and one in float64: the state's type holds what was said."""
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, kind)
    like = torch.empty(0, dtype=torch.promote_types(dtype, torch.float32))
    x, t = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype), torch.ones(4, dtype=torch.int64)
    said = Tape(tmp_path, like)
    first = said(lambda x, t: x / 3, x, t)
    said.write()
    again = Tape(tmp_path, like)(lambda x, t: pytest.fail("evaluated again"), x, t)
    assert again.dtype == like.dtype
    assert torch.equal(again, first.to(like.dtype))


def test_what_is_no_array_passes_through(tmp_path: Path) -> None:
    """Whoever called refuses it in words of his own; the tape keeps nothing of it."""
    tape = Tape(tmp_path, X)
    assert tape(lambda x, t: None, X, T) is None
    tape.write()
    assert list(tmp_path.iterdir()) == []
