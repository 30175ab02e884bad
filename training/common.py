"""What the training scripts share: a run and its checkpoint, the loss of the noise, the loop, and the export to diffusers' format.

A run has a budget of minutes. Its learning rate follows a cosine in the share of them that is used up, over every resumption, and
`checkpoint.pt` holds all that the next call needs to go on. SIGTERM, Ctrl-C and `--stop-after` end a call after the step at hand.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from dpmsolver.files import written_aside

STEPS = 1000  # of the forward process of DDPM (Ho et al. 2020), betas linear from 1e-4 to 0.02
BETA_START, BETA_END = 1e-4, 0.02
DROP_LABEL = 0.1


@dataclass(frozen=True)
class Recipe:
    """How a run learns: minutes in all, the peak of the learning rate, the steps up to it, and the memory of the average."""

    minutes: float
    learning_rate: float
    warm_up: int = 200
    ema_decay: float = 0.999


class Run:
    """The state of a training run: everything that a checkpoint holds. `build` makes the network, where it is to be trained."""

    def __init__(self, build: Callable[[], UNet2DModel], recipe: Recipe) -> None:
        self.net = build()
        self.ema = build().requires_grad_(False)
        self.ema.load_state_dict(self.net.state_dict())
        weights = list(self.net.parameters())
        self.optimizer = torch.optim.AdamW(
            weights,
            lr=recipe.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=0.01,
            fused=True if weights[0].is_cuda else None,
        )
        self.recipe, self.step, self.elapsed = recipe, 0, 0.0

    def start_from(self, folder: Path) -> None:
        """Take the weights of an exported model."""
        weights = UNet2DModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False).state_dict()
        self.net.load_state_dict(weights)
        self.ema.load_state_dict(weights)

    def state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]

    def resume(self, folder: Path, seed: int) -> None:
        """Go on from the folder's checkpoint, if there is one, with other random numbers than its first steps had."""
        path = folder / "checkpoint.pt"
        if not path.exists():
            return
        try:
            self.load(torch.load(path, map_location="cpu", weights_only=True))
        except (RuntimeError, KeyError, ValueError) as error:
            cause = str(error).strip().splitlines()[0]
            raise ValueError(f"{path} is not a checkpoint of this network ({cause}): name another --run") from error
        torch.manual_seed(seed + self.step)
        print(f"resumed at step {self.step}, {self.elapsed / 60:.1f} min", flush=True)

    def update(self, loss: Tensor) -> None:
        """One step of Adam with warm-up and a cosine to zero, then the moving average."""
        recipe = self.recipe
        warm = min(1.0, (self.step + 1) / recipe.warm_up)
        rate = recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(recipe.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)

    @property
    def progress(self) -> float:
        return min(1.0, self.elapsed / (self.recipe.minutes * 60.0))


class Stop:
    """Whether this call is to end: asked by SIGTERM or Ctrl-C while the block runs, or by a limit of minutes from now on."""

    def __init__(self, after_minutes: float | None = None) -> None:
        self.deadline = math.inf if after_minutes is None else time.monotonic() + 60.0 * after_minutes
        self.signalled = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    @property
    def asked(self) -> bool:
        return self.signalled or time.monotonic() >= self.deadline


def alphas_cumprod(device: torch.device | str = "cpu") -> Tensor:
    """alpha^2 of the steps 0 … 999: float32 (1000,)."""
    return torch.cumprod(1 - torch.linspace(BETA_START, BETA_END, STEPS, dtype=torch.float64), 0).float().to(device)


def batches(count: int, size: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Indices of one batch after the other, without end: each pass over the data in an order of its own, its remainder left out."""
    order = torch.randperm(count, device=device)
    while True:
        if len(order) < size:
            order = torch.randperm(count, device=device)
        pick, order = order[:size], order[size:]
        yield pick


def noise_loss(
    net: Callable[..., Any],
    signals: Tensor,
    images: Tensor,
    labels: Tensor,
    null_label: int,
    min_snr: float = 5.0,
) -> Tensor:
    """Mean square error of the noise, in bfloat16; the times of a batch are stratified over the 1000 steps.

    Args:
        signals: alpha^2 of every step, as `alphas_cumprod` gives them.
        images: float (B, C, H, W) in [-1, 1]. labels: int64 (B,); a tenth of them becomes `null_label`.
        min_snr: gamma of the weights min(SNR, gamma)/SNR (Hang et al. 2023, arXiv 2303.09556, eq. 8); infinity for none.
    """
    batch, device = len(images), images.device
    stratum = torch.rand((), device=device) + torch.arange(batch, device=device)[torch.randperm(batch, device=device)]
    steps = (stratum / batch * STEPS).long().clamp_(max=STEPS - 1)
    labels = torch.where(torch.rand(batch, device=device) < DROP_LABEL, null_label, labels)
    signal_ = signals[steps]
    noise = torch.randn_like(images)
    noisy = signal_.sqrt()[:, None, None, None] * images + (1 - signal_).sqrt()[:, None, None, None] * noise
    with torch.autocast(device.type, torch.bfloat16):
        predicted = net(noisy, steps, labels, return_dict=False)[0]
    snr = signal_ / (1 - signal_)
    weights = snr.clamp(max=min_snr) / snr
    return (weights * (predicted.float() - noise).square().mean(dim=(1, 2, 3))).mean()


def compiled(net: torch.nn.Module, first_loss: Callable[[Any], Tensor], wanted: bool) -> Any:
    """The network compiled, where that is wanted and works; the same network, and a message, where it does not.

    `first_loss(net)` is one loss. It is computed here with its gradients, which are dropped, so that no minute of the budget goes by
    while the compiler works.
    """
    if not wanted:
        return net
    fast = torch.compile(net)
    try:
        first_loss(fast).backward()
    except Exception as error:
        # Dynamo, Inductor, Triton and the C++ compiler each raise errors of their own.
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"torch.compile does not work here ({cause}): going on without it, more slowly", flush=True)
        return net
    finally:
        net.zero_grad(set_to_none=True)
    return fast


def train(
    run: Run, loss: Callable[[], Tensor], save: Callable[[], None], stop: Stop, save_every: float = 180.0
) -> None:
    """Steps until the run's minutes are used up or `stop` is asked for, saved every `save_every` seconds and at the end.

    Raises:
        FloatingPointError: the loss is no longer finite. Nothing is saved then: the last checkpoint stands.
    """
    running: Tensor | None = None
    saved, started = run.elapsed, time.monotonic() - run.elapsed

    def checked_save() -> None:
        # Only looked at here: to ask at every step would make the host wait for the device.
        if running is not None and not math.isfinite(running.item()):
            raise FloatingPointError(f"the loss is {running.item()} at step {run.step}: the last checkpoint stands")
        save()

    while run.progress < 1.0 and not stop.asked:
        current = loss()
        run.update(current)
        run.elapsed = time.monotonic() - started
        running = current.detach().clone() if running is None else running.lerp_(current.detach(), 0.01)
        if run.step % 200 == 0:
            print(f"step {run.step}  {run.elapsed / 60:.1f} min  loss {running.item():.5f}", flush=True)
        if run.elapsed - saved > save_every:
            checked_save()
            saved = run.elapsed
    checked_save()


def save_checkpoint(run: Run, folder: Path) -> None:
    """`checkpoint.pt`, written aside and renamed."""
    with written_aside(folder / "checkpoint.pt") as aside:
        torch.save(run.state(), aside)


def export(
    net: UNet2DModel,
    half: UNet2DModel,
    null_label: int,
    folder: Path,
    card: str | None = None,
    scheduler: Any = None,
) -> None:
    """Write a folder in diffusers' pipeline format, half-precision safetensors.

    Args:
        half: a network of the same shape on the CPU, which takes the weights.
        card: the text of README.md, if there is to be one.
        scheduler: of diffusers, whose config says the forward process; by default that of DDPM with linear betas.
    """
    half.load_state_dict(net.state_dict())
    # A name with an underscore: diffusers keeps it in the config and does not warn that it does not know it.
    half.register_to_config(_null_label=null_label)
    half.half().save_pretrained(folder / "unet")
    # safetensors leaves the file readable by its owner only.
    (folder / "unet" / "diffusion_pytorch_model.safetensors").chmod(0o644)
    if scheduler is None:
        scheduler = DDPMScheduler(
            num_train_timesteps=STEPS,
            beta_start=BETA_START,
            beta_end=BETA_END,
            beta_schedule="linear",
            clip_sample=False,
        )
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": "0.42.1",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", type(scheduler).__name__],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    if card is not None:
        (folder / "README.md").write_text(card)
