"""Train one of the small networks of pictures that samplers are judged on.

    python training/small.py digits-flow --data mnist.npz --run runs/digits-flow --minutes 20
    python training/small.py cifar10-small --data cifar10_jpeg.npz --run runs/cifar10-small --minutes 100

The names are digits-flow (straight paths, the network predicts the velocity), digits-cosine and digits-cosine-v (cosine betas, noise and
v), digits-edm (EDM's preconditioning), and cifar10-small (1000 linear betas, noise; in colour, mirrored at random). `mnist.npz` is what
`digits.py` takes, and CIFAR-10 what `cifar10.py` takes. A run writes `checkpoint.pt` every minute, aside and renamed:
whatever ends it, the same command resumes from there, and the learning rate falls to zero as the `--minutes` are used up. `--init` starts
from the exported model of another process, which has the same weights to learn about digits. The exported folder (`model` in the
run's folder) is in diffusers' format, half precision, and belongs into `training/networks/NAME`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cifar10_data
import processes
import torch
from common import DROP_LABEL, Recipe, Run, Stop, batches, export, save_checkpoint, train
from diffusers import UNet2DModel
from digits import NULL_LABEL, load_images
from torch import Tensor

PROCESSES = {
    "digits-flow": processes.flow,
    "digits-cosine": lambda: processes.betas("squaredcos_cap_v2"),
    "digits-cosine-v": lambda: processes.betas("squaredcos_cap_v2", "v_prediction"),
    "digits-edm": processes.edm,
    "cifar10-small": lambda: processes.betas("linear"),
}


def build_unet(colour: bool) -> UNet2DModel:
    """0.42 million weights for digits, 1.4 million for colour: narrow where pixels are many."""
    size, channels, widths = (cifar10_data.SIZE, 3, (16, 48, 96)) if colour else (28, 1, (16, 32, 48))
    return UNet2DModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=8,
        add_attention=False,
        num_class_embeds=NULL_LABEL + 1,
        resnet_time_scale_shift="scale_shift" if colour else "default",
    )


def _digits(path: Path) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    return *load_images(path), lambda images: images


def _cifar10(path: Path) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Bytes, which become floats batch by batch."""
    pictures = cifar10_data.load_pictures(path, "train")
    return pictures.images, pictures.labels, lambda images: cifar10_data.to_float(cifar10_data.flipped(images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PROCESSES)
    parser.add_argument("--data", type=Path, required=True, help="mnist.npz, or CIFAR-10 as cifar10.py takes it")
    parser.add_argument("--run", type=Path, help="folder of the run (checkpoint, exported model); runs/NAME by default")
    parser.add_argument("--minutes", type=float, default=20.0, help="minutes of training in all, over every resumption")
    parser.add_argument(
        "--init", type=Path, help="folder of an exported model to start from, where there is no checkpoint"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--save-every", type=float, default=60.0, help="seconds between two checkpoints")
    parser.add_argument("--stop-after", type=float, help="minutes after which this call ends; the next one resumes")
    args = parser.parse_args()

    folder = args.run or Path("runs") / args.name
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    colour = args.name.startswith("cifar10")
    try:
        images, labels, batch_of = _cifar10(args.data) if colour else _digits(args.data)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    process = PROCESSES[args.name]()
    run = Run(partial(build_unet, colour), Recipe(args.minutes, args.learning_rate))
    if args.init is not None:
        run.start_from(args.init)
    run.resume(folder, args.seed)
    picks = batches(len(images), args.batch)

    def loss() -> Tensor:
        pick = next(picks)
        classes = torch.where(torch.rand(args.batch) < DROP_LABEL, NULL_LABEL, labels[pick])

        def predict(x: Tensor, label: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return run.net(x, label, classes, return_dict=False)[0]

        return processes.loss(predict, process, batch_of(images[pick]))

    def save() -> None:
        save_checkpoint(run, folder)
        export(run.ema, build_unet(colour), NULL_LABEL, folder / "model", scheduler=process.scheduler)

    with Stop(args.stop_after) as stop:
        train(run, loss, save, stop, args.save_every)
    done = "done" if run.progress == 1.0 else "stopped, and the same command resumes"
    print(f"{done}: {run.step} steps, {run.step * args.batch} images, {run.elapsed / 60:.1f} min")


if __name__ == "__main__":
    main()
