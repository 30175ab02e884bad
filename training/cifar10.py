"""Train the embedded `cifar10` model: a class-conditional U-Net of eight million weights that predicts noise, on a GPU.

    python training/cifar10.py --data cifar10_jpeg.npz --minutes 25 --run runs/cifar10

`--data` is `cifar10_jpeg.npz`, whose pictures are CIFAR-10's recompressed as JPEG, slightly lossy, or a folder with torchvision's copy of
CIFAR-10 (see `training/cifar10_data.py`). The run writes `checkpoint.pt` every few minutes, on SIGTERM and after `--stop-after` minutes;
the same command started again goes on from it, and the learning rate falls to zero as the `--minutes` of training are used up. Loading
and compiling are not counted. `--init runs/cifar10/model --spent 12` goes on from an exported model where the checkpoint is gone, with
12 minutes of the budget used up. The exported folder (`runs/cifar10/model`) is in diffusers' pipeline format.

Recipe: the forward process of DDPM (Ho et al. 2020), 1000 betas linear from 1e-4 to 0.02; labels dropped one time in ten; horizontal
flips; AdamW; bfloat16; an average of the weights. The network is DDPM's for this data at half the width and three of its four levels,
with self-attention at 16 x 16, and with the time scaling and shifting the features (Dhariwal & Nichol 2021, arXiv 2105.05233, section 3).

The loss is weighted by min(SNR, 5)/SNR (Hang et al. 2023, arXiv 2303.09556, eq. 8; `--min-snr inf` for DDPM's). It lowers only the first
130 of the 1000 steps, where the noise is faint: there the error of the noise is largest and that of the picture smallest, so without
the weight a network of this size and a training this short spend most of their gradient on what nobody sees, with these pictures on the
traces of JPEG. That is an argument and not a measurement of ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cifar10_data import CLASSES, SIZE, Pictures, flipped, load_pictures, to_float
from common import Recipe, Run, Stop, alphas_cumprod, batches, compiled, export, noise_loss, save_checkpoint, train
from diffusers import UNet2DModel
from torch import Tensor

NULL_LABEL = len(CLASSES)  # the label of "no class", for classifier-free guidance
WIDTH = 64


def build_unet(width: int = WIDTH) -> UNet2DModel:
    """7.7 million weights at width 64; a pass over one picture is 3.1 GFLOP."""
    return UNet2DModel(
        sample_size=SIZE,
        in_channels=3,
        out_channels=3,
        block_out_channels=(width, 2 * width, 9 * width // 4),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=width // 4,
        attention_head_dim=width // 2,
        num_class_embeds=NULL_LABEL + 1,
        resnet_time_scale_shift="scale_shift",
    )


def card(data: Pictures, run: Run, batch: int) -> str:
    """The README.md of the exported folder."""
    weights = sum(weight.numel() for weight in run.ema.parameters())
    return f"""# cifar10

A class-conditional U-Net of {weights:,} weights that predicts noise, for pictures of 32 x 32 pixels in colour, made by
`training/cifar10.py` of dpmsolver.

- Data: {len(data.images):,} training pictures of {data.source}, mirrored at random.
- Classes 0 to 9: {", ".join(CLASSES)}; {NULL_LABEL} is "no class".
- Forward process: 1000 betas, linear from 1e-4 to 0.02.
- Training: {run.step} steps of {batch} pictures, {run.elapsed / 60:.1f} of {run.recipe.minutes:g} minutes. The weights are the moving
  average, stored in half precision.
- Use: `dpmsolver sample cifar10 --nfe 10`, or diffusers' `UNet2DModel` with any of its schedulers.
- It is small and its training was short: it is made to compare samplers, not to draw the best pictures there are.
"""


def loss_of(pictures: Pictures, batch: int, min_snr: float) -> Callable[[Any], Tensor]:
    """net -> the loss of the next batch."""
    device = pictures.images.device
    signals, picks = alphas_cumprod(device), batches(len(pictures.images), batch, device)

    def loss(net: Any) -> Tensor:
        pick = next(picks)
        images = to_float(flipped(pictures.images[pick])).contiguous(memory_format=torch.channels_last)
        return noise_loss(net, signals, images, pictures.labels[pick], NULL_LABEL, min_snr)

    return loss


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--data", type=Path, required=True, help="cifar10_jpeg.npz, or a folder with cifar-10-batches-py")
    option("--run", type=Path, default=Path("runs/cifar10"), help="folder of the run (checkpoint, exported model)")
    option("--minutes", type=float, default=25.0, help="minutes of training in all, over every resumption")
    option("--stop-after", type=float, help="minutes after which this call ends; the same command goes on")
    option("--init", type=Path, help="folder of an exported model to start from")
    option("--spent", type=float, default=0.0, help="with --init: minutes of the budget that went into that model")
    option("--batch", type=int, default=512)
    option("--learning-rate", type=float, default=1e-3)
    option("--min-snr", type=float, default=5.0, help="gamma of the loss' weights; inf: every step counts alike")
    option("--width", type=int, default=WIDTH, help="channels of the first level, a multiple of 8 (dry runs)")
    option("--limit", type=int, help="train on N of the pictures (dry runs)")
    option("--save-every", type=float, default=3.0, help="minutes between checkpoints")
    option("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    option("--compile", action=argparse.BooleanOptionalAction, help="torch.compile; by default on cuda")
    option("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.width < 8 or args.width % 8:
        parser.error(f"--width must be a multiple of 8, got {args.width}")
    if not 0.0 <= args.spent < args.minutes:
        parser.error(f"--spent must be at least 0 and less than --minutes {args.minutes:g}, got {args.spent:g}")
    if not args.min_snr > 0 or min(args.batch, 1 if args.limit is None else args.limit) < 1:
        parser.error("--min-snr must be positive, --batch and --limit at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    try:
        # Together with the network they stay on the device: 154 MB of bytes.
        args.pictures = load_pictures(args.data, "train", args.limit).to(args.device)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    args.batch = min(args.batch, len(args.pictures.images))
    return args


def main() -> None:
    args = parse()
    stop = Stop(args.stop_after)
    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True

    def on_device() -> UNet2DModel:
        return build_unet(args.width).to(args.device, memory_format=torch.channels_last)

    run = Run(on_device, Recipe(args.minutes, args.learning_rate, warm_up=1000, ema_decay=0.9995))
    run.elapsed = 60.0 * args.spent
    if args.init is not None:
        run.start_from(args.init)
    run.resume(args.run, args.seed)
    loss = loss_of(args.pictures, args.batch, args.min_snr)

    def save() -> None:
        save_checkpoint(run, args.run)
        text = card(args.pictures, run, args.batch)
        export(run.ema, build_unet(args.width), NULL_LABEL, args.run / "model", text)

    with stop:
        wanted = args.device == "cuda" if args.compile is None else args.compile
        net = compiled(run.net, loss, wanted)
        train(run, partial(loss, net), save, stop, 60.0 * args.save_every)
    done = "done" if run.progress == 1.0 else "stopped, and the same command goes on"
    print(f"{done}: {run.step} steps, {run.step * args.batch} images, {run.elapsed / 60:.1f} min")


if __name__ == "__main__":
    main()
