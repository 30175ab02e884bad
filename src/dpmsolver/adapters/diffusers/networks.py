"""diffusers models as networks of a `Denoiser`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dpmsolver.adapters.diffusers.configs import edm_scaling
from dpmsolver.adapters.diffusers.fields import Fields
from dpmsolver.networks.preconditioning import edm_preconditioned

__all__ = ["Network", "network"]


@dataclass(frozen=True)
class Network:
    """A diffusers model as a function (x, t, **kwargs) -> tensor. It casts x to the model's float type; see `network`.

    Args:
        module: the model.
        sign: the factor of its output.
    """

    module: Any
    sign: float = 1.0

    def __call__(self, x: Any, t: Any, **kwargs: Any) -> Any:
        labels = kwargs.get("class_labels")
        # Not `len`, which would fix the batch of an exported network.
        if labels is not None and labels.shape[0] not in (1, x.shape[0]):
            raise ValueError(f"class_labels needs one class per sample: {len(x)} samples, {len(labels)} classes")
        output = self.module(x.to(self.module.dtype), t, **kwargs, return_dict=False)[0]
        return output if self.sign == 1.0 else self.sign * output


def network(module: Any, config: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Return a diffusers model as the network of a `Denoiser`: a function (x, t, **kwargs) -> tensor.

    Args:
        module: a UNet2DModel, a UNet2DConditionModel or a transformer, called as module(x, t, **kwargs, return_dict=False). A model in half
            precision gets its input in half precision; the sampler's state stays in float32.
        config: the config of its scheduler. It is needed for the models of EDM's schedulers, which are preconditioned so that they predict
            data. The labels of all others come from `schedule_from_config(config)`.

    Raises:
        TypeError: the module has no dtype, so it is not a diffusers model.
        ValueError: `schedule_from_config` refuses the config; in a call, class_labels do not fit the batch.
    """
    if not callable(module) or not hasattr(module, "dtype"):
        raise TypeError(f"a diffusers model is needed, such as pipeline.unet, got {type(module).__name__}")
    scaling = None if config is None else edm_scaling(Fields(config))
    if scaling is None:
        return Network(module)
    sigma_data, sign = scaling
    return edm_preconditioned(Network(module, sign), sigma_data)
