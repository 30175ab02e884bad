"""Stable Diffusion in ten evaluations: one line of the pipeline changes. Then the same network in our own loop, with a fitted plan.

    python stable_diffusion.py "a lighthouse at night" picture.png [--model stable-diffusion-v1-5/stable-diffusion-v1-5] [--tune]

`--tune` fits a plan of ten evaluations to the network with this prompt and guidance first: some 30,000 evaluations of one picture, which
is an hour of a large GPU for a large network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

import dpmsolver as dpm
from dpmsolver.adapters.diffusers import PlanScheduler

GUIDANCE = 7.5
NOISES = 32  # of the fit


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="stable-diffusion-v1-5/stable-diffusion-v1-5")
    parser.add_argument("--nfe", type=int, default=10)
    parser.add_argument("--tune", action="store_true")
    given = parser.parse_args(arguments)
    pipe = StableDiffusionPipeline.from_pretrained(given.model)
    pipe.to("cuda" if torch.cuda.is_available() else "cpu")

    if given.tune:
        denoiser = dpm.from_diffusers(pipe, prompt=given.prompt, guidance=GUIDANCE, num=NOISES)
        shape = (NOISES, pipe.unet.config.in_channels, *[pipe.unet.config.sample_size] * 2)
        x_T = dpm.initial_noise(denoiser.schedule, shape, seed=0, like=torch.empty(0, device=pipe.device))
        tuned = dpm.tune(denoiser, x_T, given.nfe)
        plan = given.out.with_suffix(".plan.json")
        plan.write_text(tuned.plan.to_json())
        pipe.scheduler = PlanScheduler.from_config(pipe.scheduler.config, plan=str(plan))
    else:
        pipe.scheduler = PlanScheduler.from_config(pipe.scheduler.config, solver="unipc-3")
    generator = torch.Generator().manual_seed(0)
    image = pipe(given.prompt, num_inference_steps=given.nfe, guidance_scale=GUIDANCE, generator=generator).images[0]
    image.save(given.out)


if __name__ == "__main__":
    main()
