"""generate: the same seed is the same bytes on any engine, and a folder holds what its manifest says, or is refused."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_models import HERE, leftovers, sums

import dpmsolver as dpm
from dpmsolver.generation import drawing, preparing
from dpmsolver.generation.evaluating import evaluate
from dpmsolver.generation.generating import generate
from dpmsolver.generation.job import Job
from dpmsolver.generation.manifest import digest, sum_of
from dpmsolver.generation.seeds import Seeds
from dpmsolver.generation.sources import load_source
from dpmsolver.generation.watching import status

SLOW = f"{HERE}:slow"


def test_sample_i_is_seed_i(tmp_path: Path) -> None:
    """What `sample` draws from seed i by itself, in any shard, for a stochastic solver too."""
    generate("mixture-2", seeds="7-30", nfe=6, solver="dpm++2m-sde", out=tmp_path, shard=10, batch=5)
    testbed = dpm.models.testbeds.load_testbed("mixture-2")
    plan = dpm.make_plan("dpm++2m-sde", testbed.schedule, 6, predicts="noise")
    seeds = list(range(20, 30))
    x_T = dpm.initial_noise(testbed.schedule, (10, 2), seeds)
    alone = dpm.sample(testbed.denoiser(), x_T, plan=plan, generator=seeds, noise="host")
    assert np.allclose(np.load(tmp_path / "samples" / "00000002.npy"), alone, rtol=0, atol=1e-12)


def test_bytes_are_the_same_on_every_engine_and_for_every_cut(tmp_path: Path) -> None:
    """In this process, with one and two processes; a shard that two runs share is the same in both, though one has a part of its chunks."""
    generate(SLOW, 300, 4, out=tmp_path / "a", shard=50, batch=20)
    for workers in (1, 2):
        generate(SLOW, 300, 4, out=tmp_path / f"{workers}", shard=50, batch=20, engine="processes", workers=workers)
        assert sums(tmp_path / f"{workers}") == sums(tmp_path / "a")
    generate(SLOW, seeds="111-222", nfe=4, out=tmp_path / "b", shard=50, batch=20)
    assert sums(tmp_path / "b")["samples/00000003.npy"] == sums(tmp_path / "a")["samples/00000003.npy"]
    part, whole = (np.load(tmp_path / name / "samples" / "00000002.npy") for name in "ba")
    assert np.array_equal(part, whole[11:])
    assert not leftovers(tmp_path / "a")


def test_a_finished_run_is_verified_and_nothing_is_drawn(tmp_path: Path) -> None:
    """The batch of the manifest holds, also where it was found by trying."""
    made = generate("mixture-2", 300, 4, out=tmp_path, shard=100)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["run"]["batch"] == made.batch
    for record in manifest["shards"]:
        files = {
            name: (tmp_path / name).read_bytes()
            for name in sums(tmp_path)
            if name.endswith(f"{record['shard']:08d}.npy")
        }
        assert digest(files) == record["sha256"]
    again = generate("mixture-2", 300, 4, out=tmp_path, shard=100)
    assert (again.drawn, again.batch, again.redrawn) == (0, made.batch, ())


def test_damage_is_told_and_drawn_again_to_the_same_bytes(tmp_path: Path) -> None:
    """A shard cut off, one with a changed byte, one that is gone."""
    generate("mixture-2", 300, 4, out=tmp_path, shard=100)
    before = sums(tmp_path)
    first, second, third = ((tmp_path / name) for name in before)
    first.write_bytes(first.read_bytes()[:-7])
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    third.unlink()
    with pytest.warns(dpm.ConventionWarning, match="it is drawn again") as told:
        again = generate("mixture-2", 300, 4, out=tmp_path, shard=100)
    assert len(told) == len(again.redrawn) == 3
    assert "instead of" in again.redrawn[0]
    assert "sha256" in again.redrawn[1]
    assert "is gone" in again.redrawn[2]
    assert sums(tmp_path) == before


def test_size_alone_is_verified_where_that_is_asked_for(tmp_path: Path) -> None:
    """A changed byte passes, a missing one does not."""
    generate("mixture-2", 200, 4, out=tmp_path, shard=100)
    first, second = ((tmp_path / name) for name in sums(tmp_path))
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    second.write_bytes(second.read_bytes()[:-1])
    with pytest.warns(dpm.ConventionWarning, match="shard 1"):
        assert generate("mixture-2", 200, 4, out=tmp_path, shard=100, verify="size").drawn == 100


def test_a_file_of_another_run_is_never_mixed_in(tmp_path: Path) -> None:
    """A foreign file in a shard's place stops the run; one that no shard has is refused; a folder without a manifest is too."""
    generate("mixture-2", 300, 4, out=tmp_path / "a", shard=100)
    generate("mixture-2", 300, 5, out=tmp_path / "b", shard=100)
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    manifest["shards"] = manifest["shards"][:1]
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(manifest))
    own = (tmp_path / "a" / "samples" / "00000001.npy").read_bytes()
    foreign = (tmp_path / "b" / "samples" / "00000001.npy").read_bytes()
    (tmp_path / "a" / "samples" / "00000001.npy").write_bytes(foreign)
    with pytest.raises(ValueError, match=r"00000001\.npy in .* is not of this run"):
        generate("mixture-2", 300, 4, out=tmp_path / "a", shard=100)
    (tmp_path / "a" / "samples" / "00000001.npy").write_bytes(own)
    assert generate("mixture-2", 300, 4, out=tmp_path / "a", shard=100).drawn == 200
    (tmp_path / "a" / "samples" / "00000009.npy").write_bytes(own)
    with pytest.raises(ValueError, match=r"00000009\.npy .* belongs to no shard"):
        generate("mixture-2", 300, 4, out=tmp_path / "a", shard=100)
    (tmp_path / "b" / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        generate("mixture-2", 300, 5, out=tmp_path / "b", shard=100)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nfe": 5}, "nfe was 4 and is 5"),
        ({"num": 400}, 'seeds was "0-299" and is "0-399"'),
        ({"solver": "ddim"}, 'solver was "unipc-2" and is "ddim"'),
        ({"model": "mixture-16"}, "network was"),
        ({"batch": 10}, "batch was 50 and is 10"),
        ({"shard": 150}, "shard was 100 and is 150"),
        ({"format": "npz"}, "format was"),
        ({"features": "none"}, "features was"),
    ],
)
def test_a_folder_of_another_run_says_which_field_differs_and_stays(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Whatever the samples depend on."""
    given: dict[str, Any] = {"model": "mixture-2", "num": 300, "nfe": 4, "shard": 100, "batch": 50}
    generate(**given, out=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match="holds another run") as refused:
        generate(**{**given, **changes}, out=tmp_path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num": None}, "give one of num .* and seeds"),
        ({"num": 0}, "num is an integer >= 1"),
        ({"nfe": None}, "nfe is needed"),
        ({"solver": "dimm"}, "did you mean"),
        ({"format": "jpeg"}, "unknown format 'jpeg'"),
        ({"engine": "cluster"}, "unknown engine"),
        ({"workers": 2}, "'inline' draws in this process"),
        ({"address": "auto"}, "take engine='ray'"),
        ({"batch": 0}, "batch is an integer >= 1"),
        ({"batch": 200}, "batch is from 1 to 100"),
        ({"dtype": "int8"}, "unknown dtype"),
        ({"dtype": "float16"}, "needs a torch network"),
        ({"guidance": 2.0}, "cannot be guided"),
        ({"guidance": float("nan")}, "guidance is a finite number"),
        ({"classes": [0, 1]}, "has no classes"),
        ({"features": "nose"}, "unknown features"),
        ({"features": "digits"}, "sees pictures"),
        ({"verify": "md5"}, "verify is 'sha256' or 'size'"),
        ({"noise": "pink"}, "unknown noise"),
        ({"model": "mixture-17"}, "unknown testbed"),
        ({"model": 7}, "model is a name, a Testbed or a Denoiser"),
        ({"device": "cuda"}, "is known in closed form"),
        ({"out": "nowhere://x"}, "nowhere"),
        ({"out": ""}, "out is empty"),
        ({"num": 10**23}, r"seeds must be below 2\^63"),
        ({"num": None, "seeds": 7}, "seeds are a range"),
        ({"classes": []}, "classes are integers"),
        ({"classes": "none"}, "classes are integers"),
        ({"prompts": "a lighthouse"}, "prompts are texts"),
        ({"prompts": []}, "prompts are texts"),
    ],
)
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_made(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Before a folder is made."""
    given: dict[str, Any] = {"model": "mixture-2", "num": 100, "nfe": 4, "shard": 100, "out": tmp_path / "out"}
    with pytest.raises((ValueError, TypeError), match=said) as refused:
        generate(**{**given, **changes})
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_and_a_second_run_are_refused(tmp_path: Path) -> None:
    """The lock of a folder goes with the process that holds it."""
    from dpmsolver.generation.targets import open_target

    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        generate("mixture-2", 10, 4, out=tmp_path / "file" / "run")
    with open_target(tmp_path / "run").locked(), pytest.raises(ValueError, match="another run is at work"):
        generate("mixture-2", 10, 4, out=tmp_path / "run")
    assert generate("mixture-2", 10, 4, out=tmp_path / "run").drawn == 10


def test_classes_are_those_of_the_seeds(tmp_path: Path) -> None:
    """In turn, as listed, or drawn by the seed; a number that does not divide is refused with those that do."""
    model = f"{HERE}:tiny_pictures"

    def labels(name: str, **changes: Any) -> list[int]:
        given = {"num": 12, "nfe": 2, "format": "npy", "shard": 6, "batch": 3, **changes}
        generate(model, **given, out=tmp_path / name)
        parts = sorted((tmp_path / name / "samples").glob("*.labels.npy"))
        return np.concatenate([np.load(part) for part in parts]).tolist()

    assert labels("all") == [seed % 4 for seed in range(12)]
    assert labels("list", classes=[3, 1]) == [3, 1] * 6
    drawn = labels("random", classes="random")
    assert drawn != labels("all-again")
    assert labels("random-again", classes="random", shard=4, batch=2) == drawn
    with pytest.raises(ValueError, match="10 samples do not divide into 4 classes of one size: draw 8 or 12"):
        labels("uneven", num=10)
    with pytest.raises(ValueError, match="class 4 does not exist: accepted are 0 to 3"):
        labels("beyond", classes=[4])


def test_a_denoiser_of_ones_own_needs_a_shape(tmp_path: Path) -> None:
    """And then runs in this process, where nothing has to be sent."""
    testbed = dpm.models.testbeds.load_testbed("mixture-2")
    generate(testbed.denoiser(), 20, 4, out=tmp_path / "a", shape=(2,))
    generate("mixture-2", 20, 4, out=tmp_path / "b")
    assert sums(tmp_path / "a") == sums(tmp_path / "b")
    generate(testbed, 20, 4, out=tmp_path / "c")
    assert sums(tmp_path / "c") == sums(tmp_path / "b")
    with pytest.raises(ValueError, match="give shape="):
        generate(testbed.denoiser(), 20, 4, out=tmp_path / "d")
    with pytest.raises(ValueError, match="cannot be sent to another process"):
        generate(testbed, 20, 4, out=tmp_path / "d", engine="processes", workers=2)
    assert not (tmp_path / "d").exists()


def test_a_plan_from_a_file_is_drawn_as_it_is(tmp_path: Path) -> None:
    """And says its evaluations by itself; one of another schedule is refused."""
    testbed = dpm.models.testbeds.load_testbed("mixture-2")
    plan = dpm.make_plan("ddim", testbed.schedule, 3, predicts="noise")
    generate("mixture-2", 20, out=tmp_path / "a", plan=plan)
    generate("mixture-2", 20, 3, out=tmp_path / "b", solver="ddim")
    assert sums(tmp_path / "a") == sums(tmp_path / "b")
    with pytest.raises(ValueError, match="leave solver, grid and nfe out"):
        generate("mixture-2", 20, 4, out=tmp_path / "c", plan=plan)
    with pytest.raises(dpm.PlanError, match="schedule"):
        generate("mixture-2", 20, out=tmp_path / "c", plan=dpm.make_plan("ddim", dpm.schedules.EDM(), 3))
    assert not (tmp_path / "c").exists()


class _Short:
    """`sample` on a machine with memory for a number of samples."""

    def __init__(self, most: int) -> None:
        self.most, self.sizes = most, list[int]()

    def __call__(self, denoiser: Any, x: Any, **given: Any) -> Any:
        if len(x) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.sizes.append(len(x))
        return dpm.sample(denoiser, x, **given)


def test_the_batch_is_found_below_what_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying stops at the first batch that is too large; at one sample it is told in a line."""
    monkeypatch.setattr(preparing, "sample", _Short(30))
    assert generate("mixture-2", 100, 3, out=tmp_path / "a", shard=100).batch <= 20
    monkeypatch.setattr(preparing, "sample", _Short(3))
    assert generate("mixture-2", 100, 3, out=tmp_path / "b", shard=100).batch in (1, 2)
    monkeypatch.setattr(preparing, "sample", _Short(0))
    with pytest.raises(MemoryError, match=r"single sample \(a batch of 1\)"):
        generate("mixture-2", 100, 3, out=tmp_path / "c", shard=100)
    assert not (tmp_path / "c").exists()


def test_a_batch_that_was_given_and_is_too_large_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that of an earlier call, where a run resumes with less memory; nothing changes."""
    generate("mixture-2", 100, 3, out=tmp_path / "begun", shard=100, batch=20)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    monkeypatch.setattr(preparing, "sample", _Short(10))
    for given in ({"batch": 20, "out": tmp_path / "new"}, {"out": tmp_path / "begun"}):
        with pytest.raises(MemoryError, match="memory is too short for a batch of 20") as refused:
            generate("mixture-2", 100, 3, shard=100, **given)  # type: ignore[arg-type]
        assert "\n" not in str(refused.value)
    monkeypatch.setattr(preparing, "sample", _Short(0))
    with pytest.raises(MemoryError, match=r"single sample \(a batch of 1\)"):
        generate("mixture-2", 100, 3, out=tmp_path / "new", shard=100, batch=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_batch_is_found_although_something_disturbs_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that costs the same for any batch is drawn in large ones, also where one measurement took ten times as long."""
    calls, source = [0], load_source(Job("mixture-2", "", Seeds.of(range(1000), 1000), None))

    def end(source: Any, seeds: list[int]) -> None:
        calls[0] += 1
        time.sleep(0.02 if calls[0] == 3 or len(seeds) == 20 else 0.002)

    monkeypatch.setattr(preparing, "_end", end)
    assert preparing._found(source) >= 100


def test_a_compiled_network_that_draws_has_seen_no_other_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It fills batches up to the largest that it has seen: after trials of larger ones its bits would be others than another worker's."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    seen: list[list[int]] = []

    def compiled(network: Any) -> Any:
        sizes: list[int] = []
        seen.append(sizes)

        def run(x: Any, *rest: Any, **given: Any) -> Any:
            sizes.append(len(x))
            return network(x, *rest, **given)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    made = generate("digits", 20, 2, out=tmp_path, compile=True, features="none")
    assert len(seen) == 2
    assert set(seen[1]) == {made.batch}


def test_files_of_somebody_else_stay(tmp_path: Path) -> None:
    """In the folder of a run, whatever they are called: empty folders, unfinished files, a folder that is called records."""
    mine = [tmp_path / "mine" / ".draft.tmp", tmp_path / "records" / "mine.csv", tmp_path / ".git" / "refs" / "x.tmp"]
    generate("mixture-2", 100, 3, out=tmp_path, shard=100)
    for path in mine:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    (tmp_path / "empty").mkdir()
    generate("mixture-2", 100, 3, out=tmp_path, shard=100)
    assert all(path.exists() for path in (*mine, tmp_path / "empty"))
    for name in ("manifest.json", "samples", "statistics"):
        (tmp_path / name).rename(tmp_path / f"{name}.old")
    with pytest.raises(ValueError, match=r"holds records and no manifest\.json"):
        generate("mixture-2", 100, 3, out=tmp_path, shard=100)
    assert all(path.exists() for path in mine)


@pytest.mark.parametrize(
    "changes",
    [
        {"run": {}},
        {"run": []},
        {"environments": []},
        {"environments": {"a": 3}},
        {"shards": [{"shard": "0", "num": 1, "files": 1, "size": 1, "sha256": ""}]},
    ],
)
def test_a_manifest_that_somebody_changed_is_refused_in_a_sentence(changes: dict[str, Any], tmp_path: Path) -> None:
    """By generate, evaluate and status."""
    generate("mixture-2", 20, 3, out=tmp_path)
    place = tmp_path / "manifest.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))
    (tmp_path / "status.json").unlink()
    for call in (
        lambda: generate("mixture-2", 20, 3, out=tmp_path),
        lambda: evaluate(tmp_path),
        lambda: status(str(tmp_path)),
    ):
        with pytest.raises(ValueError, match=r"manifest\.json in .* cannot be read"):
            call()


def test_a_record_of_another_run_is_never_taken(tmp_path: Path) -> None:
    """As two runs leave them that write to one store at the same time, which has no locks."""
    for name, nfe in (("a", 3), ("b", 4)):
        generate("mixture-2", 20, nfe, out=tmp_path / name, shard=10, batch=10)
    of_b = json.loads((tmp_path / "b" / "manifest.json").read_text())
    (tmp_path / "a" / "records").mkdir()
    record = {**of_b["shards"][1], "run": sum_of(of_b["run"])}
    (tmp_path / "a" / "records" / "00000001.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"records/00000001\.json in .* is of another run"):
        generate("mixture-2", 20, 3, out=tmp_path / "a", shard=10, batch=10)


def test_memory_that_runs_short_leaves_the_bytes_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run falls back on a batch that gives the same bits, and stops where there is none, for another try."""
    generate("mixture-2", 100, 3, out=tmp_path / "a", shard=50, batch=25)
    short = _Short(10)
    monkeypatch.setattr(drawing, "sample", short)
    generate("mixture-2", 100, 3, out=tmp_path / "b", shard=50, batch=25)
    assert set(short.sizes) == {5}
    assert sums(tmp_path / "b") == sums(tmp_path / "a")
    monkeypatch.setattr(drawing, "probed", lambda source, batch, parts: f"other bits with {parts}")
    with pytest.raises(MemoryError, match="batch of 25, and no smaller one that fits gives the same bits"):
        generate("mixture-2", 100, 3, out=tmp_path / "c", shard=50, batch=25)
    monkeypatch.undo()
    generate("mixture-2", 100, 3, out=tmp_path / "c", shard=50, batch=25)
    assert sums(tmp_path / "c") == sums(tmp_path / "a")
    assert not leftovers(tmp_path / "c")


def test_bits_of_a_network_differ_with_the_batch_and_not_with_the_chunk(tmp_path: Path) -> None:
    """Why the batch belongs to the run: on `digits`, batches of 8 and 40 differ in the last bits, so their runs are not mixed."""
    pytest.importorskip("diffusers")
    given: dict[str, Any] = {"nfe": 2, "format": "npy", "shard": 40, "features": "none"}
    generate("digits", 40, out=tmp_path / "40", batch=40, **given)
    generate("digits", seeds="20-39", out=tmp_path / "part", batch=40, **given)
    whole, part = (np.load(tmp_path / name / "samples" / "00000000.npy") for name in ("40", "part"))
    assert np.array_equal(part, whole[20:])
    with pytest.raises(ValueError, match="batch was 40 and is 8"):
        generate("digits", 40, out=tmp_path / "40", batch=8, **given)


def test_other_versions_are_told(tmp_path: Path) -> None:
    """A run that was begun elsewhere goes on, and says what differs."""
    generate("mixture-2", 20, 3, out=tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    ((key, there),) = manifest["environments"].items()
    manifest["environments"] = {"older": {**there, "numpy": "1.26.0"}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.warns(dpm.ConventionWarning, match=r"numpy was '1\.26\.0'"):
        generate("mixture-2", 20, 3, out=tmp_path)
    assert set(json.loads((tmp_path / "manifest.json").read_text())["environments"]) == {"older", key}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate("mixture-2", 20, 3, out=tmp_path)


def test_guidance_and_a_type_of_the_network_reach_it(tmp_path: Path) -> None:
    """Guided digits are those of the model's own denoiser; a network in bfloat16 gives other floats, near by."""
    pytest.importorskip("diffusers")
    given: dict[str, Any] = {"nfe": 2, "format": "npy", "batch": 10, "features": "none"}
    generate("digits", 10, out=tmp_path / "guided", guidance=2.0, **given)
    model = dpm.models.load("digits")
    torch = pytest.importorskip("torch")
    x_T = dpm.initial_noise(model.schedule, (10, *model.shape), list(range(10)), like=torch.empty(0), noise="host")
    alone = dpm.sample(model.denoiser(list(range(10)), guidance=2.0), x_T, 2)
    assert np.array_equal(np.load(tmp_path / "guided" / "samples" / "00000000.npy"), alone.numpy())
    tiny: dict[str, Any] = {"num": 8, "nfe": 2, "format": "npy"}
    for dtype in ("float32", "bfloat16"):
        generate(f"{HERE}:tiny_pictures", **tiny, dtype=dtype, out=tmp_path / dtype)  # type: ignore[arg-type]
    full, half = (np.load(tmp_path / name / "samples" / "00000000.npy") for name in ("float32", "bfloat16"))
    assert not np.array_equal(full, half)
    assert np.abs(full - half).max() < 0.1 * np.abs(full).max()
    with pytest.raises(ValueError, match='dtype was "bfloat16" and is "float32"'):
        generate(f"{HERE}:tiny_pictures", **tiny, out=tmp_path / "bfloat16")


def test_places_are_named_as_workers_elsewhere_find_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to where the driver is: a worker of Ray may be in another folder."""
    (tmp_path / "mine.py").write_text(
        "import dpmsolver as dpm\n\ndef law():\n    return dpm.models.testbeds.load_testbed('mixture-2')\n"
    )
    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []
    monkeypatch.setattr("dpmsolver.generation.engines.inline.prepare", lambda job, source: seen.append(job) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate("mine.py:law", 10, 2, out="run")
    assert (seen[0].model, seen[0].out) == (f"{tmp_path}/mine.py:law", f"{tmp_path}/run")
