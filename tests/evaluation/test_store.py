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
    (again,) = Store(tmp_path / "new" / "folder", MADE).read("ddim", 10, range(3))
    assert again["error"].tolist() == [0.0, 1.0, 2.0]
    assert (again["evaluations"], again["size"], again["share"]) == (10, 3, 1)


def test_samples_are_read_from_whichever_batches_hold_them(tmp_path: Path) -> None:
    """Batches of any sizes, overlapping ones too: each sample once, in order; numbers of a batch with the share that was read."""
    store = Store(tmp_path, MADE)
    for part in (range(10), range(10, 14), range(10, 20), range(17, 40), range(50, 60)):
        store.write("ddim", 10, part, {"error": np.array(part), "seconds": np.array(1.0 * len(part))})
    assert store.reach("ddim", 10) == 40
    assert store.reach("ddim", 5) == 0
    assert store.has("ddim", 10, range(35, 40))
    assert not store.has("ddim", 10, range(35, 41))
    pieces = store.read("ddim", 10, range(5, 33))
    assert np.concatenate([piece["error"] for piece in pieces]).tolist() == [*range(5, 33)]
    assert sum(int(piece["size"]) for piece in pieces) == 28
    assert sum(float(piece["seconds"] * piece["share"]) for piece in pieces) == pytest.approx(28.0)
    with pytest.raises(KeyError, match="sample 40 of ddim"):
        store.read("ddim", 10, range(30, 45))


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


def drawn_in(folder: Path, made_with: dict[str, object]) -> None:
    Store(folder, made_with).write("ddim", 10, range(3), {"error": np.zeros(3)})


def test_a_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    drawn_in(tmp_path, MADE)
    with pytest.raises(ValueError, match=r"seed was 0 and is 1.*another folder"):
        Store(tmp_path, MADE | {"seed": 1})


def test_a_folder_that_does_not_say_what_it_was_made_with_is_refused(tmp_path: Path) -> None:
    """Batches of an older version, which did not record the network, are not mixed with others."""
    drawn_in(tmp_path, MADE)
    with pytest.raises(ValueError, match=r"its network was not recorded.*another folder"):
        Store(tmp_path, MADE | {"network": "abc"})
    with pytest.raises(ValueError, match=r"its network was not recorded.*another folder"):
        Store(tmp_path, MADE | {"network": None})


@pytest.mark.parametrize("record", ['{"testbed": "digits", "seed": 1}', "{half", None])
def test_a_folder_in_which_nothing_was_drawn_is_reused(tmp_path: Path, record: str | None) -> None:
    """A command that was mistyped and stopped leaves no claim, nor do the tapes of a batch that it had begun."""
    (tmp_path / "batches" / "ddim").mkdir(parents=True)
    (tmp_path / "begun" / "ddim").mkdir(parents=True)
    if record is not None:
        (tmp_path / "made_with.json").write_text(record)
    assert not Store(tmp_path, MADE).has("ddim", 10, range(3))
    assert record is None or not (tmp_path / "begun").exists()
    drawn_in(tmp_path, MADE)
    assert Store(tmp_path, MADE).has("ddim", 10, range(3))


def test_folders_that_are_no_comparison_are_refused(tmp_path: Path) -> None:
    drawn_in(tmp_path, MADE)
    (tmp_path / "made_with.json").write_text("{half")
    with pytest.raises(ValueError, match="cannot be read"):
        Store(tmp_path, MADE)
    (tmp_path / "made_with.json").unlink()
    with pytest.raises(ValueError, match=r"no made_with\.json"):
        Store(tmp_path, MADE)
