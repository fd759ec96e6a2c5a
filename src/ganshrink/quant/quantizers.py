"""Fake quantization attached to a network by hooks: names, state and structure of the bare network stay as they are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ganshrink.quant.config import QuantConfig
from ganshrink.quant.fake import pass_weight, quantize_to
from ganshrink.quant.grid import Grid, Grids, activation_grid, trained_grid, weight_grid
from ganshrink.quant.layers import Conv, device_of, evaluating, find_layers
from ganshrink.system.generator import as_tuple


class Quantizers:
    """Quantizes the weight of every Conv2d and ConvTranspose2d of a network, and the input of all but the stems.

    A stem is a convolution that reads the network's own input: the picture stays float. Gradients pass straight through
    (GAN Slimming, Eqs. 7 to 10), in float32 whatever the autocast. A weight that an earlier hook put in place for the
    call is the one that is quantized. A context manager: the network must be closed again before it is exported or
    copied. Install on the bare module, before it is compiled.

    Args:
        model: the network, its weights where they will be used or not.
        config: bits and ranges.
        example: inputs (B, C, H, W); the network is run on them once, to see which convolutions read them.
        grids: of the inputs, from `calibrate`; must be given where activations are observed.

    Attributes:
        layers: what is quantized and what is not, with the reason.

    Raises:
        ValueError: if nothing can be quantized, or the grids are missing.
    """

    def __init__(
        self,
        model: nn.Module,
        config: QuantConfig,
        example: Tensor | Sequence[Tensor],
        *,
        grids: Grids | None = None,
    ) -> None:
        self.config, self.layers = config, find_layers(model, example, config.exclude)
        self._model, self._example = model, as_tuple(example)
        self._inputs = self._input_grids(grids)
        self._frozen: dict[str, Tensor] = {}  # scales of weights, once they are fixed
        self._freezing = False
        self._hooks: list[Any] = []
        for path, conv in self.layers.quantized.items():
            self._hooks += [
                conv.register_forward_pre_hook(self._enter(path), with_kwargs=True),
                conv.register_forward_hook(_leave, always_call=True),
            ]

    def freeze(self) -> None:
        """Fix the scales of the weights where they are now; until then each forward pass finds them anew.

        They are those of the weights in use, so that what earlier hooks set to zero does not count.
        """
        self._frozen.clear()
        self._freezing = True
        device = device_of(self._model)
        try:
            with evaluating(self._model):
                self._model(*(tensor.to(device) for tensor in self._example))
        finally:
            self._freezing = False

    def weight_grid(self, path: str, weight: Tensor) -> Grid:
        """The grid of a layer's weight: over its present range, or as it was frozen."""
        transposed = isinstance(self.layers.quantized[path], nn.ConvTranspose2d)
        channel = int(transposed) if self.config.per_channel else None
        grid = weight_grid(weight, self.config.weight_bits, self.config.levels, channel=channel)
        fixed = self._frozen.get(path)
        return grid if fixed is None else replace(grid, scale=fixed.to(weight.device))

    def state_dict(self) -> dict[str, Any]:
        """The frozen scales."""
        return {path: scale.clone() for path, scale in self._frozen.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._frozen = {path: scale.clone() for path, scale in state_dict.items()}

    def ranged(self) -> QuantConfig:
        """The settings with the ranges of inputs that are in use, where these were observed."""
        if self.config.activations == "fixed":
            return self.config
        ranges = {path: (float(grid.scale), int(grid.zero)) for path, grid in self._inputs.items()}
        return self.config.model_copy(update={"ranges": ranges})

    def close(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _input_grids(self, grids: Grids | None) -> dict[str, Grid]:
        """By path, of all layers but the stems."""
        paths = [path for path in self.layers.quantized if path not in self.layers.stems]
        config, bits = self.config, self.config.activation_bits
        if grids is not None:
            missing = [path for path in paths if path not in grids]
            if missing:
                raise ValueError(f"there is no range of {missing[0]!r}'s input: calibrate the network first")
            known = {path: grids[path].input for path in paths}
            return {path: grid for path, grid in known.items() if grid is not None}
        if config.ranges is not None:
            return {p: trained_grid(bits, *config.ranges[p]) for p in paths if p in config.ranges}
        if config.activations == "observed":
            raise ValueError(
                f"observed activations need the range of {paths[0]!r}'s input: calibrate the network first"
            )
        return dict.fromkeys(paths, activation_grid(bits, config.limit))

    def _enter(self, path: str) -> Any:
        def hook(
            module: Conv, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            with torch.autocast(module.weight.device.type, enabled=False):
                weight = module.weight  # of an earlier hook, if one put it there
                grid = self.weight_grid(path, weight)
                if self._freezing:
                    assert isinstance(grid.scale, Tensor)
                    self._frozen[path] = grid.scale.clone()
                module.__dict__["weight"] = pass_weight(
                    weight, grid
                )  # found before the parameter, which stays
                if path in self._inputs:
                    given, *rest = args or (kwargs.pop("input"),)
                    args = (quantize_to(given, self._inputs[path]), *rest)
            return args, kwargs

        return hook


def _leave(module: nn.Module, args: Any, output: Any) -> None:
    module.__dict__.pop("weight", None)
