"""benchmarks/peers.py: peers spend what they say, end where they say and go where the exact ODE goes; the table says who is ahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import peers, peers_text
from benchmarks.peer_samplers import peer_samplers

import dpmsolver as dpm
from dpmsolver.errors import PlanError, SamplingError
from dpmsolver.evaluation.samplers import Counter, Sampler
from dpmsolver.models import Gaussian
from dpmsolver.models.testbeds import load_testbed

SCHEDULE = dpm.schedules.Discrete(betas=np.linspace(1e-4, 0.02, 1000))
PEERS = {peer.name: peer for peer in peer_samplers(SCHEDULE)}
ADAPTIVE = {name for name, peer in PEERS.items() if peer.settings}
AZULA = [name for name in PEERS if name.startswith("azula ")]
FOUR_STEPS = "diffusers PNDM leading"  # cost 13 evaluations, and it takes no fewer
# From karras and lu_lambdas sigmas to sigma_min their last step has no length, by which their third order divides from 15 steps on.
NOT_FINITE = {f"diffusers DPMSolverMultistep 3M dpmsolver {grid}" for grid in ("karras", "lu_lambdas")}

# All data are one point: the noise is the same all along the way and every solver is exact, whatever its steps.
POINT = Gaussian(mean=np.linspace(-1.0, 1.0, 5), variance=np.zeros(5))
# azula's REABSampler is not exact there, and is the one sampler of azula that converges at first order whatever order it is given.
REAB = {name for name in PEERS if "REAB" in name}
PART = range(4)
KEYS = [(0, i) for i in PART]
X_T = dpm.initial_noise(SCHEDULE, (4, 5), 0)


def drawn(peer: Sampler, setting: float, x_T: Any = X_T, **options: Any) -> Any:
    return peer.draw(POINT.denoiser(SCHEDULE, "noise").replace(**options), x_T, setting, KEYS)


def budget(peer: Sampler, nfe: int) -> float:
    return peer.settings[-1] if peer.settings else nfe


@pytest.mark.parametrize("name", [name for name in PEERS if name != FOUR_STEPS])
def test_every_peer_spends_at_most_its_budget(name: str) -> None:
    """Counted at the network: six, or five where a step costs two; and the samples are finite, of x_T's shape and type."""
    peer, counter = PEERS[name], Counter()
    x = peer.draw(counter.counted(POINT.denoiser(SCHEDULE, "noise")), X_T, budget(peer, 6), KEYS)
    assert isinstance(x, np.ndarray)
    assert (x.shape, x.dtype) == (X_T.shape, X_T.dtype)
    assert np.isfinite(x).all()
    assert counter.calls > 6 if name in ADAPTIVE else counter.calls in (5, 6)


def test_a_budget_below_the_smallest_is_refused_before_the_network_is_called() -> None:
    """As a comparison asks: by `end_time`, with a PlanError, which leaves the run out and says why."""
    for name, nfe in ((FOUR_STEPS, 12), ("k-diffusion heun", 2)):
        with pytest.raises(PlanError, match=f"{nfe} evaluations"):
            PEERS[name].end_time(SCHEDULE, nfe)
    counter = Counter()
    PEERS[FOUR_STEPS].draw(counter.counted(POINT.denoiser(SCHEDULE, "noise")), X_T, 14, KEYS)
    assert counter.calls == 14


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_ends_where_it_says(name: str) -> None:
    """On one point every run lies on the exact trajectory, at the time that `end_time` says; at the other end it is 1.4e-2 away.

    That is the wrapper's scaling, times and end, and nothing of the solver, nor of the start, which one point forgets. What diffusers
    rounds to whole training steps, and solvers of noise amplify, makes up to 4e-3. Noise that is added stays where sigma is not 0.
    """
    peer = PEERS[name]
    setting = budget(peer, 20)
    if name in NOT_FINITE:
        with pytest.raises(SamplingError, match="not finite"):
            drawn(peer, setting)
        return
    end = peer.end_time(SCHEDULE, setting)
    if (end == 0.0 or not peer.stochastic) and name not in REAB:
        exact = POINT.trajectory(SCHEDULE, X_T, SCHEDULE.t_max, end)
        assert abs(drawn(peer, setting) - exact).max() < 5e-3
        other = POINT.trajectory(SCHEDULE, X_T, SCHEDULE.t_max, SCHEDULE.t_min - end)
        assert abs(drawn(peer, setting) - other).max() > 1e-2


# Networks of other schedules: what they predict, and the peers that sample them.
KINDS: dict[str, tuple[Any, Any]] = {
    "flow": (dpm.schedules.Flow(label_scale=1000.0), "velocity"),
    "edm": (dpm.schedules.EDM(), "data"),
}
OTHERS = {kind: {peer.name: peer for peer in peer_samplers(schedule)} for kind, (schedule, _) in KINDS.items()}
EACH = [
    (kind, name)
    for kind, found in OTHERS.items()
    for name in found
    if not name.startswith("azula") or name.endswith((" rectified", "=0", "AB 2"))
]


@pytest.mark.parametrize(("kind", "name"), EACH)
def test_peers_of_flows_and_of_edm_spend_their_budget_and_end_where_they_say(kind: str, name: str) -> None:
    """On one point, as above. The nearer end is 1e-4 or 2e-3 away: azula rounds nothing, and is told from it."""
    (schedule, predicts), peer, counter = KINDS[kind], OTHERS[kind][name], Counter()
    x_T = dpm.initial_noise(schedule, (4, 5), 0)
    setting = budget(peer, 20)
    x = peer.draw(counter.counted(POINT.denoiser(schedule, predicts)), x_T, setting, KEYS)
    assert (x.shape, x.dtype) == (x_T.shape, x_T.dtype)
    assert counter.calls > 6 if peer.settings else counter.calls in (19, 20)
    end = peer.end_time(schedule, setting)
    assert end in (0.0, schedule.t_min)
    if (end == 0.0 or not peer.stochastic) and "REAB" not in name:
        exact = POINT.trajectory(schedule, x_T, schedule.t_max, end)
        assert abs(x - exact).max() < (1e-6 if name.startswith("azula") else 5e-3)


def test_a_reversed_flow_gives_the_same_samples() -> None:
    """Whose label grows towards the data, and whose velocity has the other sign."""
    for name in ("diffusers UniPCMultistep 3", "diffusers FlowMatchHeunDiscrete", *AZULA[:1]):
        peer, found = OTHERS["flow"][name], []
        for schedule in (dpm.schedules.Flow(), dpm.schedules.Flow(reversed=True)):
            testbed = load_testbed("gaussian", schedule=schedule, predicts="velocity")
            found.append(peer.draw(testbed.denoiser(), testbed.initial_noise(PART, 0), 8, KEYS))
        assert abs(found[0] - found[1]).max() < 1e-5


def error(peer: Sampler, nfe: int, kind: str = "") -> float:
    """The distance to the exact trajectory."""
    schedule, predicts = KINDS[kind] if kind else (None, None)
    testbed = load_testbed("gaussian", schedule=schedule, predicts=predicts)
    assert testbed.gaussian is not None
    x_T = testbed.initial_noise(PART, 0)
    x = peer.draw(testbed.denoiser(), x_T, nfe, testbed.keys(PART, 0))
    end = peer.end_time(testbed.schedule, nfe)
    exact = testbed.gaussian.trajectory(testbed.schedule, x_T, testbed.schedule.t_max, end)
    return float(np.sqrt(np.mean((x - exact) ** 2)))


# A multistep method loses its footing on diffusers' beta grid, whose sigmas are almost equally far apart and then fall at once.
DETERMINISTIC = [
    n
    for n, p in PEERS.items()
    if not (p.stochastic or n in ADAPTIVE | NOT_FINITE or n.endswith(" beta") or n.startswith("azula"))
]
SOME = (
    "diffusers DDIM trailing",
    "diffusers IPNDM",
    "diffusers HeunDiscrete",
    "diffusers DPMSolverMultistep 2M karras",
    "diffusers UniPCMultistep 3",
    "k-diffusion lms",
    "k-diffusion dpm_fast",
)


def converges(name: str) -> None:
    peer = PEERS[name]
    few, many = error(peer, 14 if name == FOUR_STEPS else 5), error(peer, 40)
    assert many < 0.05
    assert many < 0.4 * few


@pytest.mark.parametrize("name", SOME)
def test_a_peer_converges_to_the_exact_trajectory(name: str) -> None:
    """On Gaussian data, to an RMS distance of 0.05 with 40 evaluations, well below that with 5."""
    converges(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_deterministic_peer_converges_to_the_exact_trajectory(name: str) -> None:
    """The same for all."""
    converges(name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("flow", "diffusers FlowMatchEulerDiscrete"),
        ("flow", "diffusers FlowMatchHeunDiscrete shift=3"),
        ("flow", "diffusers DPMSolverMultistep 2M"),
        ("flow", "diffusers UniPCMultistep 3"),
        ("edm", "diffusers EDMEuler"),
        ("edm", "diffusers EDMDPMSolverMultistep 3M exponential"),
        ("edm", "k-diffusion heun karras"),
        ("edm", "k-diffusion dpm_fast"),
    ],
)
def test_a_peer_of_a_flow_or_of_edm_converges_to_the_exact_trajectory(kind: str, name: str) -> None:
    few, many = (error(OTHERS[kind][name], nfe, kind) for nfe in (5, 40))
    assert many < 0.05
    assert many < 0.4 * few


@pytest.mark.skipif(not AZULA, reason="azula is not installed")
@pytest.mark.parametrize(
    ("kind", "name", "below"),
    [
        ("", "Euler", 1e-2),
        ("", "Heun cosine", 1e-3),
        ("", "zAB 3 stop=0", 1e-4),
        ("", "vAB 3 rectified", 1e-4),
        ("", "zEAB 3 ve", 1e-6),
        ("", "xEAB 3 ve", 1e-6),
        ("", "REAB 2 vp", 1e-2),
        ("flow", "vAB 3", 1e-4),
        ("flow", "zEAB 3 rectified", 1e-3),
        ("edm", "zAB 3 decay", 1e-4),
        ("edm", "zEAB 3 ve", 1e-6),
    ],
)
def test_azula_converges_to_the_exact_trajectory(kind: str, name: str, below: float) -> None:
    """With 200 evaluations: to 3e-7 where the order shows. On a flow most begin at alpha = 1e-3, as azula's schedules do, not at 0."""
    peer = (OTHERS[kind] if kind else PEERS)[f"azula {name}"]
    assert error(peer, 200, kind) < below


@pytest.mark.slow
@pytest.mark.parametrize("name", AZULA)
def test_every_deterministic_sampler_of_azula_converges_to_the_exact_trajectory(name: str) -> None:
    """Order one takes 200 evaluations to 1e-2, and so does REABSampler."""
    if not PEERS[name].stochastic:
        assert error(PEERS[name], 200) < 0.012


@pytest.mark.skipif(not AZULA, reason="azula is not installed")
def test_azula_leaves_the_random_numbers_of_torch_as_they_were() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn(PEERS["azula DDPM"], 5)
    assert (torch.get_rng_state() == before).all()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("", n) for n, p in PEERS.items() if p.stochastic and n.endswith(("e", "leading", "karras"))),
        *((kind, n) for kind, n in EACH if OTHERS[kind][n].stochastic),
    ],
)
def test_noise_comes_from_the_keys(kind: str, name: str) -> None:
    """The same keys, the same samples; other keys, others. Only noise on the way can tell: the data have a variance."""
    schedule, predicts = KINDS[kind] if kind else (None, None)
    testbed = load_testbed("gaussian", schedule=schedule, predicts=predicts)
    peer, x_T = (OTHERS[kind] if kind else PEERS)[name], testbed.initial_noise(PART, 0)
    torch.manual_seed(1)
    first, again, other = (
        peer.draw(testbed.denoiser(), x_T, 6, testbed.keys(part, 0)) for part in (PART, PART, range(4, 8))
    )
    assert (first == again).all()
    assert abs(first - other).max() > 1e-2


@pytest.mark.parametrize(
    "name", ["diffusers UniPCMultistep 2", "diffusers EulerDiscrete", "diffusers IPNDM", "k-diffusion heun"]
)
def test_torch_and_numpy_networks_and_v_give_the_same_samples(name: str) -> None:
    """The network of the testbed as it is: its framework and type, its keyword arguments, its rounding of times, noise or v."""
    seen = set()

    def network(x: Any, t: Any, label: int = 0) -> Any:
        seen.add((type(x), x.dtype, t.dtype, label))
        return POINT.denoiser(SCHEDULE, "noise").network(x, t)

    plain = drawn(PEERS[name], 10)
    kwargs = {"label": 3}
    x = drawn(
        PEERS[name], 10, torch.from_numpy(X_T).float(), network=network, network_kwargs=kwargs, time_label="round"
    )
    assert seen == {(torch.Tensor, torch.float32, torch.int64, 3)}
    assert x.dtype == torch.float32
    assert abs(x.numpy() - plain).max() < 5e-3
    v = PEERS[name].draw(POINT.denoiser(SCHEDULE, "v"), X_T, 10, KEYS)
    assert abs(v - plain).max() < 1e-3


def test_what_peers_cannot_sample_is_refused() -> None:
    """Another schedule, a discrete one that begins in pure noise, a network that predicts something else: named in the message."""
    with pytest.raises(ValueError, match=r"Discrete schedule.*LinearVP"):
        peer_samplers(dpm.schedules.LinearVP())
    with pytest.raises(ValueError, match="alpha > 0"):
        peer_samplers(dpm.schedules.Discrete(betas=[*np.linspace(1e-4, 0.02, 99), 1.0]))
    for name in ("diffusers DDIM trailing", "k-diffusion euler"):
        with pytest.raises(ValueError, match="noise or v, got 'data'"):
            PEERS[name].draw(POINT.denoiser(SCHEDULE, "data"), X_T, 5, KEYS)
    flow = dpm.schedules.Flow()
    with pytest.raises(ValueError, match="velocity, got 'data'"):
        OTHERS["flow"]["diffusers UniPCMultistep 2"].draw(POINT.denoiser(flow, "data"), X_T, 5, KEYS)


def curve(name: str, **values: tuple[float, float]) -> dict[str, Any]:
    """A curve with points n5=(evaluations, error), …"""
    points = [
        {
            "setting": float(key[1:]),
            "nfe": int(key[1:]),
            "evaluations": evaluations,
            "measures": {"error": interval(value), "accuracy": interval(value)},
        }
        for key, (evaluations, value) in values.items()
    ]
    return {
        "name": name,
        "points": points,
        "solver": name,
        "grid": None,
        "stochastic": False,
        "skipped": [],
        "grids": {},
    }


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": 0.9 * value, "high": 1.1 * value}


MEASURES = {
    "error": {"title": "Error", "better": "lower", "log": True},
    "accuracy": {"title": "Accuracy", "better": "higher", "log": False},
    "error_db": {"title": "dB", "better": "higher", "log": False},
}
CURVES = [
    curve("ddim", n5=(5, 0.4), n8=(8, 0.3)),
    curve("dpm++2m, end=0.0", n5=(5, 0.2), n8=(8, 0.1)),
    curve("diffusers Heun", n5=(5, 0.3), n8=(7, 0.05)),
    curve("diffusers DDIM", n5=(5, 0.25), n8=(8, 0.2)),
    curve("k-diffusion adaptive", n1=(6.5, 0.01)),
]
RESULTS = {"title": "made up", "num": 10, "seed": 0, "measures": MEASURES, "curves": CURVES, "thresholds": None}
ENDS = {
    (c["name"], p["setting"]): 0.001 if c["name"] in ("ddim", "diffusers DDIM") else 0.0
    for c in CURVES
    for p in c["points"]
}
TABLE = peers.table(RESULTS, [8, 5], ENDS)


def row(key: str, nfe: int, end: float | None = None) -> dict[str, Any]:
    (found,) = (r for r in TABLE if (r["measure"], r["nfe"], r["end"]) == (key, nfe, end))
    return found


def test_the_best_of_each_is_among_what_counted_no_more_than_the_budget() -> None:
    """By counted evaluations, not by settings, and by the measure's better side."""
    five, eight = row("accuracy", 5), row("accuracy", 8)
    assert five["ours"]["name"] == "ddim"
    assert five["diffusers"]["name"] == "diffusers Heun"
    assert "k-diffusion" not in five  # 6.5 evaluations are more than 5
    assert eight["k-diffusion"]["evaluations"] == 6.5
    assert (eight["ours"]["name"], eight["ours"]["evaluations"]) == ("ddim", 5)  # whose accuracy was higher
    assert eight["diffusers"]["at_least_equal"]
    assert {r["measure"] for r in TABLE} == {"error", "accuracy"}


def test_errors_are_compared_among_runs_that_end_at_the_same_time() -> None:
    """Ours is ahead at both ends with 5 evaluations, and behind at one of them with 8."""
    clean, first = row("error", 5, 0.0), row("error", 5, 0.001)
    assert (clean["ours"]["name"], clean["diffusers"]["name"]) == ("dpm++2m, end=0.0", "diffusers Heun")
    assert (first["ours"]["name"], first["diffusers"]["name"]) == ("ddim", "diffusers DDIM")
    assert clean["diffusers"]["ratio"]["value"] == pytest.approx(0.2 / 0.3)
    assert clean["diffusers"]["at_least_equal"]
    assert not first["diffusers"]["at_least_equal"]
    assert not row("error", 8, 0.0)["diffusers"]["at_least_equal"]


def test_the_text_counts_the_budgets_and_names_what_spent_less() -> None:
    said = peers_text.text(RESULTS, TABLE)
    assert "**Error at sigma = 0: against diffusers, at least equal at 1 of 2 budgets.**" in said
    assert "**Error at t = 0.001: against diffusers, at least equal at 0 of 2 budgets.**" in said
    assert "| Heun (7) |" in said
    assert "| adaptive (6.5) |" in said


def test_a_ratio_whose_interval_holds_1_is_not_resolved() -> None:
    """The verdict is that of the values, and the text says that the interval holds both."""

    def wide(ours: peers.Candidate, theirs: peers.Candidate, key: str) -> dict[str, float]:
        return {"value": 0.9, "low": 0.8, "high": 1.1}

    rows = peers.table(RESULTS, [5], ENDS, wide)
    assert not any(r["diffusers"]["resolved"] for r in rows)
    assert "yes, within the interval" in peers_text.text(RESULTS, rows)
    assert "within" not in peers_text.text(RESULTS, TABLE)


@pytest.mark.parametrize(
    ("ours", "equal", "at_least"), [(0.3004, True, True), (0.31, False, False), (0.29, False, True)]
)
def test_a_thousandth_is_no_lead(ours: float, equal: bool, at_least: bool) -> None:
    """Two runs of one formula differ by rounding; by less than 0.2 % they are called equal, whoever is ahead."""
    curves = [curve("ours", n5=(5, ours)), curve("diffusers Heun", n5=(5, 0.3))]
    results = {**RESULTS, "curves": curves, "measures": {"error": MEASURES["error"]}}
    rows = peers.table(results, [5], {("ours", 5): 0.0, ("diffusers Heun", 5): 0.0})
    found = rows[0]["diffusers"]
    assert (found["equal"], found["at_least_equal"]) == (equal, at_least)
    assert ("| equal |" in peers_text.text(results, rows)) is equal


def test_the_overview_has_a_row_for_each_package_and_end_and_marks_what_is_behind() -> None:
    said = peers_text.overview([{**RESULTS, "table": TABLE}])
    assert "| `made up` | sigma = 0 | diffusers | 0.67 | **2** |" in said
    assert "| `made up` | t = 0.001 | diffusers | **1.6** | **1.5** |" in said

    assert "azula" not in said  # which has no runs there, as in results of before it was compared


def test_ours_end_where_peers_do_on_any_schedule() -> None:
    """At sigma = 0 and at the least noise of the schedule; grids that count training steps are for schedules that have them."""
    assert {"unipc-2@linspace", "unipc-2@linspace:end=0.0"} <= {*peers.presets(SCHEDULE)}
    names = peers.presets(dpm.schedules.Flow())
    assert {"ddim", "ddim:end=0.0001", "unipc-3@time"} <= {*names}
    assert len(names) == len({*names})
    assert not any("linspace" in name for name in names)


def test_the_command_says_when_azula_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.peer_samplers.of_azula.INSTALLED", False)
    assert peers.main(["--testbed", "gaussian", "--nfe", "5", "--only", "DDIM", "--dry-run"]) == 0
    assert "without azula, which is not installed" in capsys.readouterr().err


def test_the_page_has_ours_and_the_winners() -> None:
    """And no measure that the peers have none of."""
    extra = {**RESULTS, "curves": [*CURVES, curve("diffusers Never", n5=(5, 0.27))]}
    for each in extra["curves"]:
        each["points"][0]["measures"]["wasserstein"] = interval(1.0)
    page = peers.shortened(extra, TABLE)
    assert [c["name"] for c in page["curves"]] == [c["name"] for c in CURVES]
    assert all(set(p["measures"]) == {"error", "accuracy"} for c in page["curves"] for p in c["points"])


def test_the_command_draws_both_and_the_interval_of_a_ratio_is_that_of_pairs(tmp_path: Path) -> None:
    """End to end. diffusers' 2M on lu_lambdas is our dpm++2m to sigma = 0, so the ratio is 1 within a hair, however few the samples."""
    copy = tmp_path / "copy.json"
    options = ["--testbed", "gaussian", "--num", "12", "--nfe", "5,6", "--batch", "8", "--seed", "3"]
    ours, only = "dpm++2m:end=0.0,ddim", "2M exponential|lu_lambdas$"
    out = ["--ours", ours, "--only", only, "--out", str(tmp_path / "run"), "--json", str(copy)]
    assert peers.main([*options, *out]) == 0
    found = json.loads(copy.read_text())
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {"results.json", "results.csv", "table.txt", "index.html"}
    first = next(r for r in found["table"] if (r["measure"], r["nfe"], r["end"]) == ("error", 6, 0.0))
    assert first["ours"]["name"] == "dpm++2m, end=0.0"
    theirs = next(c for c in found["curves"] if c["name"] == "diffusers DPMSolverMultistep 2M lu_lambdas")
    assert theirs["points"][1]["measures"]["error"]["value"] == pytest.approx(first["ours"]["value"], rel=0.05)
    ratio, alone = first["diffusers"]["ratio"], first["ours"]
    assert ratio["high"] - ratio["low"] < 0.5 * (alone["high"] - alone["low"]) / alone["value"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nfe", "a"], "--nfe takes numbers"),
        (["--only", "nothing"], "--only nothing matches no peer"),
        (["--testbed", "nope"], "unknown testbed"),
        (["--ours", "dpm++3q"], "dpm\\+\\+3q"),
        (["--num", "1"], "num must be at least 2"),
    ],
)
def test_wrong_input_ends_with_a_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = [*(() if "--testbed" in options else ("--testbed", "gaussian")), *options]
    assert peers.main([*given, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert message.replace("\\", "") in said


def test_a_dry_run_lists_the_samplers_and_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert peers.main(["--testbed", "gaussian", "--nfe", "5", "--only", "PNDM", "--dry-run", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "diffusers PNDM plms leading" in said
    assert "left out: diffusers PNDM leading at 5" in said
    assert not out.exists()
