"""What is checked and measured on a GPU, in one command: overhead, launches, CUDA graphs, bfloat16, throughput, memory, a fit.

    python -m benchmarks.gpu [--model cifar10] [--json benchmarks/results/gpu.json]
    python -m benchmarks.gpu --device cpu --quick          (a dry run; what needs CUDA is skipped, and says so)

overhead     per network evaluation of dpm++2m with a free network, ours against diffusers' DPMSolverMultistepScheduler, as in
             benchmarks/overhead.py; on CUDA also ours as a captured graph.
launches     kernels and copies per evaluation of the same runs, counted by torch's profiler; and those of dpm++2m-sde, whose noise is
             drawn on the device: copies from the host are those that the run without noise has too.
combine      one step of four arrays of (64, 4, 128, 128) in one kernel, against the time that five such streams take in a copy, and
             against a chain of torch's operations.
capture      dpm.sample captured in a CUDA graph and replayed on another x_T, against the same run without a graph.
bfloat16     the distance (RMS over all pixels) between samples of one noise, network in bfloat16 and in float32 without TF32.
throughput   pictures per second and peak memory: float32 (torch's default, TF32 in convolutions) and bfloat16, each with and
             without torch.compile, and each as a captured graph.
tune         seconds of `dpm.tune` with effort="seconds" for one budget, teacher included, and what it brought.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dpmsolver as dpm
from benchmarks import overhead as on_cpu
from dpmsolver.backends.torch import BACKEND as torch_backend
from dpmsolver.files import written_aside
from dpmsolver.models.pretrained import EMBEDDED, Pretrained, load

SEED = 0
NOISES = 128  # of the fit
STATE = (64, 4, 128, 128)  # of the step that `combine` times
NEEDS_CUDA = {"skipped": "needs a CUDA device"}


@dataclass(frozen=True)
class Setting:
    """What to run on: the model, network evaluations and samples of a run, and how many runs are timed."""

    model: Pretrained
    nfe: int
    batch: int
    repeats: int
    shapes: tuple[tuple[int, ...], ...]

    @property
    def cuda(self) -> bool:
        return self.model.device.type == "cuda"

    def labels(self) -> list[int] | None:
        classes = self.model.num_classes
        return None if classes is None else [i % classes for i in range(self.batch)]


def synchronised_seconds(function: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a call, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def captured(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """A run as a CUDA graph: what replays it, and the tensor that a replay writes. Its inputs are those that `run` closes over."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries make their handles and choose their kernels outside the graph
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph.replay, result


def overhead(setting: Setting) -> list[dict[str, Any]]:
    """Seconds per evaluation of each contestant, medians of blocks in turn."""
    device, results = setting.model.device, []
    for shape in setting.shapes:
        generator = torch.Generator().manual_seed(SEED)
        x_T, noise = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
        first = on_cpu.PAIRS[0]
        contestants = {"ours": on_cpu.ours(first.solver, x_T, noise), "diffusers": first.theirs(x_T, noise)}
        if setting.cuda:
            contestants["ours, captured"] = captured(contestants["ours"])[0]
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for function in contestants.values():
            function()
        for _ in range(setting.repeats):
            for name, function in contestants.items():
                block = synchronised_seconds(lambda run=function: [run() for _ in range(on_cpu.BLOCK)], device)
                times[name].append(block / on_cpu.BLOCK / on_cpu.NFE)
        medians = {name: statistics.median(values) for name, values in times.items()}
        results.append({"shape": shape, **medians, "ratio": medians["ours"] / medians["diffusers"]})
    return results


def counted(run: Callable[[], object]) -> dict[str, float]:
    """Kernels and copies of a run, per network evaluation, as the profiler saw them on the device."""
    run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    names = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    kinds = {"from_host": "Memcpy HtoD", "to_host": "Memcpy DtoH", "on_device": "Memcpy DtoD", "memset": "Memset"}
    found = {key: sum(name.startswith(start) for name in names) for key, start in kinds.items()}
    found["kernels"] = len(names) - sum(found.values())
    return {key: value / on_cpu.NFE for key, value in found.items()}


def launches(setting: Setting) -> list[dict[str, Any]] | dict[str, str]:
    """What runs with a free network launch, ours and diffusers', without noise and with it."""
    if not setting.cuda:
        return NEEDS_CUDA
    device, results = setting.model.device, []
    for shape in setting.shapes:
        generator = torch.Generator().manual_seed(SEED)
        x_T, noise = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
        contestants = {
            "ours": on_cpu.ours("dpm++2m", x_T, noise),
            "ours with noise": on_cpu.ours("dpm++2m-sde", x_T, noise),
            "diffusers": on_cpu.PAIRS[0].theirs(x_T, noise),
        }
        results.append({"shape": shape, **{name: counted(run) for name, run in contestants.items()}})
    return results


def combine(setting: Setting) -> dict[str, Any]:
    """Seconds of a step of four arrays, with inputs that no cache holds."""
    if not setting.cuda:
        return NEEDS_CUDA
    device, numbers = setting.model.device, (0.9, 0.3, -0.2, 0.1)
    sets = [[torch.randn(STATE, device=device) for _ in range(4)] for _ in range(4)]
    streams = torch.empty(5 * sets[0][0].numel() // 2, device=device)
    sources = [torch.randn_like(streams) for _ in range(3)]
    at = iter(range(10**9))

    def chain() -> Tensor:
        x, a, b, c = sets[next(at) % 4]
        return torch.mul(x, numbers[0]).add_(a, alpha=numbers[1]).add_(b, alpha=numbers[2]).add_(c, alpha=numbers[3])

    def ours() -> Tensor:
        arrays = sets[next(at) % 4]
        return torch_backend.combine(numbers, arrays, arrays[0])

    times = {
        # A copy reads and writes: half of five streams' elements are five streams.
        "five_streams": on_device(lambda: streams.copy_(sources[next(at) % 3])),
        "ours": on_device(ours),
        "chain": on_device(chain),
    }
    x, a, b, c = (array.double() for array in sets[0])
    exact = numbers[0] * x + numbers[1] * a + numbers[2] * b + numbers[3] * c
    error = float((torch_backend.combine(numbers, sets[0]).double() - exact).abs().max())
    return {"shape": STATE, **times, "over_limit": times["ours"] / times["five_streams"], "largest_error": error}


def on_device(run: Callable[[], object], repeats: int = 200) -> float:
    """Median seconds of a call on the device, between events; the host is ahead of it, so that launches do not count."""
    for _ in range(20):
        run()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    torch.cuda.synchronize()
    torch.cuda._sleep(20_000_000)  # cycles, in which the host launches what follows
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in pairwise(marks)) / 1e3


def variant(model: Pretrained, dtype: torch.dtype, compiled: bool = False) -> Pretrained:
    """The model with its network in another type, and compiled."""
    module: Any = copy.deepcopy(model.network.module)
    # Not `.to(dtype)`, of which diffusers warns.
    module = module.bfloat16() if dtype == torch.bfloat16 else module.float()
    if model.device.type == "cuda":
        module = module.to(memory_format=torch.channels_last)
    return replace(model, network=replace(model.network, module=torch.compile(module) if compiled else module))


def run_of(setting: Setting, model: Pretrained, x_T: Tensor) -> Callable[[], Tensor]:
    """Samples of one model from one x_T, with the default solver."""
    denoiser, plan = model.denoiser(setting.labels()), dpm.make_plan("dpm++2m", model.schedule, setting.nfe)
    return lambda: dpm.sample(denoiser, x_T, plan=plan)


def capture(setting: Setting) -> dict[str, Any]:
    """A graph captured on one x_T and replayed on another gives what a run without it gives."""
    if not setting.cuda:
        return NEEDS_CUDA
    first, second = (setting.model.initial_noise(setting.batch, seed) for seed in (SEED, SEED + 1))
    x_T = first.clone()
    run = run_of(setting, setting.model, x_T)
    replay, result = captured(run)
    result.fill_(torch.nan)
    x_T.copy_(second)
    replay()
    expected = run()
    difference = float((result - expected).abs().max())
    return {
        "equal_bit_by_bit": bool(torch.equal(result, expected)),
        "largest_difference": difference,
        "equal": difference <= 1e-4,
        "seconds_eager": synchronised_seconds(run, setting.model.device),
        "seconds_replayed": synchronised_seconds(replay, setting.model.device),
    }


def bfloat16(setting: Setting) -> dict[str, Any]:
    """RMS between samples of the same noise."""
    x_T = setting.model.initial_noise(setting.batch, SEED)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        exact = run_of(setting, variant(setting.model, torch.float32), x_T)()
    finally:
        torch.backends.cudnn.allow_tf32 = before
    half = run_of(setting, variant(setting.model, torch.bfloat16), x_T)()
    rms = float((half - exact).square().mean().sqrt())
    return {"rms": rms, "rms_of_the_samples": float(exact.square().mean().sqrt()), "nfe": setting.nfe}


def throughput(setting: Setting) -> list[dict[str, Any]]:
    """Pictures per second, the median of runs, for each type, with and without compilation, and as a graph."""
    x_T = setting.model.initial_noise(setting.batch, SEED)
    results: list[dict[str, Any]] = []
    for dtype in (torch.bfloat16, torch.float32):
        for compiled in (False, True):
            name = {"dtype": str(dtype).removeprefix("torch."), "compiled": compiled}
            if compiled and not setting.cuda:
                results.append({**name, "graph": False, **NEEDS_CUDA})
                continue
            run = run_of(setting, variant(setting.model, dtype, compiled), x_T)
            try:
                first = synchronised_seconds(run, setting.model.device)
            except Exception as error:
                if not compiled:
                    raise
                # Dynamo, Inductor, Triton and the C++ compiler each raise errors of their own.
                results.append({**name, "graph": False, "skipped": first_line(error)})
                continue
            results.append({**name, "graph": False, "first_run_seconds": first, **speed(setting, run)})
            if setting.cuda:
                results.append({**name, "graph": True, **graph_speed(setting, run)})
    return results


def speed(setting: Setting, run: Callable[[], object]) -> dict[str, Any]:
    """Pictures per second and peak memory of a run that is warm."""
    device = setting.model.device
    if setting.cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = statistics.median(synchronised_seconds(run, device) for _ in range(setting.repeats))
    memory = torch.cuda.max_memory_allocated(device) if setting.cuda else None
    return {"pictures_per_second": setting.batch / seconds, "peak_memory_bytes": memory}


def graph_speed(setting: Setting, run: Callable[[], Tensor]) -> dict[str, Any]:
    """The same of the run as a captured graph."""
    try:
        replay, _ = captured(run)
    except (
        Exception
    ) as error:  # a network may do what a graph cannot hold; CUDA's errors and torch's have no common type
        return {"skipped": first_line(error)}
    return speed(setting, replay)


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def tune(setting: Setting) -> dict[str, Any]:
    """Wall-clock seconds of a fit of five evaluations, and the plan that it kept."""
    if not setting.cuda:
        return NEEDS_CUDA
    x_T = setting.model.initial_noise(NOISES, SEED)
    classes = setting.model.num_classes
    labels = None if classes is None else [i % classes for i in range(len(x_T))]
    begin = time.perf_counter()
    tuned = dpm.tune(setting.model.denoiser(labels), x_T, 5, effort="seconds", batch=512)
    seconds, report = time.perf_counter() - begin, tuned.report
    return {"seconds": seconds, "evaluations": report.evaluations, "kept": report.winner, "selected": report.selected}


PARTS: dict[str, Callable[[Setting], Any]] = {
    "overhead": overhead,
    "launches": launches,
    "combine": combine,
    "capture": capture,
    "bfloat16": bfloat16,
    "throughput": throughput,
    "tune": tune,
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "cifar10" if "cifar10" in EMBEDDED else "digits"
    parser.add_argument("--model", default=default, help="an embedded name, or a folder in diffusers format")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), metavar="PART")
    parser.add_argument("--nfe", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here: --device cpu --quick is a dry run")
    if args.quick:
        args.nfe, args.batch, args.repeats = 2, 2, 1
    if min(args.nfe, args.batch, args.repeats) < 1:
        parser.error("--nfe, --batch and --repeats must be at least 1")
    return args


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    shapes = ((2, 3, 8, 8),) if args.quick else on_cpu.SHAPES
    setting = Setting(load(args.model, device=args.device), args.nfe, args.batch, args.repeats, shapes)
    name = torch.cuda.get_device_name() if setting.cuda else "cpu"
    results: dict[str, Any] = {
        "device": name,
        "torch": torch.__version__,
        "model": args.model,
        "nfe": args.nfe,
        "batch": args.batch,
    }
    for part in args.only:
        results[part] = PARTS[part](setting)
        print(json.dumps({part: results[part]}, indent=2), flush=True)
        if args.json is not None:  # after every part, so that a part that fails takes none of the others with it
            with written_aside(args.json) as aside:
                aside.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
