"""Batches on disk: whole or not there, and never mixed with those of another comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpmsolver.evaluation.store import Store

MADE = {"testbed": "digits", "seed": 0}


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "folder", MADE)
    arrays = {"error": np.arange(3.0), "evaluations": np.array(10)}
    assert not store.has("ddim", 10, range(3))
    store.write("ddim", 10, range(3), arrays)
    assert store.has("ddim", 10, range(3))
    assert not store.has("ddim", 10, range(3, 6))
    again = Store(tmp_path / "new" / "folder", MADE).read("ddim", 10, range(3))
    assert {name: a.tolist() for name, a in again.items()} == {"error": [0.0, 1.0, 2.0], "evaluations": 10}


def test_a_batch_of_another_size_is_another_batch(tmp_path: Path) -> None:
    """A comparison that grows from 30 samples to 50 draws its last, shorter batch anew instead of losing samples."""
    store = Store(tmp_path, MADE)
    store.write("ddim", 10, range(20, 30), {"error": np.zeros(10)})
    assert not store.has("ddim", 10, range(20, 40))


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up half way: no batch is there, and no other file."""
    store = Store(tmp_path, MADE)

    def full(file: object, **arrays: object) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        store.write("ddim", 10, range(3), {"error": np.zeros(3)})
    assert not store.has("ddim", 10, range(3))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["made_with.json"]


def test_names_that_differ_in_letters_a_file_cannot_have_stay_apart(tmp_path: Path) -> None:
    store = Store(tmp_path, MADE)
    store.write("ddim, eta=1", 10, range(3), {"error": np.zeros(3)})
    assert not store.has("ddim  eta=1", 10, range(3))
    assert not store.has("ddim/eta=1", 10, range(3))


def test_a_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, MADE)
    with pytest.raises(ValueError, match=r"seed was 0 and is 1.*another folder"):
        Store(tmp_path, MADE | {"seed": 1})


def test_folders_that_are_no_comparison_are_refused(tmp_path: Path) -> None:
    (tmp_path / "batches").mkdir()
    with pytest.raises(ValueError, match=r"no made_with\.json"):
        Store(tmp_path, MADE)
    (tmp_path / "made_with.json").write_text("{half")
    with pytest.raises(ValueError, match="cannot be read"):
        Store(tmp_path, MADE)
