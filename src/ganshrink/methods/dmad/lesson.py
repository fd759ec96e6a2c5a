"""What a trained generator and its discriminator show a student: where they look (DMAD, section III.C)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ganshrink.losses import attention_loss, attention_map, co_attention, feature_distance
from ganshrink.methods.dmad.config import DmadConfig
from ganshrink.training import Taps
from ganshrink.training.tasks import GeneratorPass


class DistillationLoss:
    """The co-attention loss (Eqs. 7 to 9) and the distance between the discriminator's features (Eq. 10), for one student.

    Args:
        name: the student's, such as "G_A": its terms are `{name}_att` and `{name}_fea`.
        judge: the teacher's discriminator; none where `needs_judge` does not ask for one.
        paths: where generators are tapped.
    """

    def __init__(self, name: str, config: DmadConfig, judge: nn.Module | None, paths: Sequence[str]) -> None:
        self.name, self.config, self.judge, self.paths = name, config, judge, paths
        self.mixes = nn.ModuleList([nn.Conv2d(2, 1, 1) for _ in paths] if config.fusion == "conv" else [])
        self._taps = None if judge is None else Taps(judge, activations(judge))

    def losses(self, way: GeneratorPass) -> dict[str, Tensor]:
        """The weighted terms of a step, from one way of its context."""
        config, losses = self.config, {}
        judged = self._judged(way.seen(way.fake)) if needs_judge(config) else {}
        if config.lambda_att:
            losses[f"{self.name}_att"] = config.lambda_att * self._attention(way, list(judged.values()))
        if config.lambda_fea:
            with torch.no_grad():
                taught = self._judged(way.seen(way.taught))
            last = list(judged)[-1]  # what enters the last convolution
            distance = feature_distance(judged[last], taught[last], norm=config.feature_norm)
            losses[f"{self.name}_fea"] = config.lambda_fea * distance
        return losses

    def _judged(self, seen: Tensor) -> dict[str, Tensor]:
        assert self.judge is not None and self._taps is not None  # as `needs_judge` says
        self.judge(seen)
        return self._taps.take()

    def _attention(self, way: GeneratorPass, judged: Sequence[Tensor]) -> Tensor:
        config = self.config
        learnt, taught = way.features("G"), way.features("teacher")
        sizes = [(learnt[path].shape[2], learnt[path].shape[3]) for path in self.paths]
        looked = [
            attention_map(layer if config.judge_gradient else layer.detach(), reduction=config.attention)
            for layer in nearest(judged, sizes, config.judge_layers)
        ]
        distances = []
        for number, path in enumerate(self.paths):
            target = co_attention(
                attention_map(taught[path], reduction=config.attention),
                looked,
                fusion=config.fusion,
                judge_weight=config.judge_weight,
                mix=self.mixes[number] if self.mixes else None,
            )
            student = attention_map(learnt[path], reduction=config.attention)
            distances.append(attention_loss(student, target, norm=config.attention_norm))
        return torch.stack(distances).sum()

    def close(self) -> None:
        """Take the hooks off the discriminator."""
        if self._taps is not None:
            self._taps.close()


def needs_judge(config: DmadConfig) -> bool:
    """Whether these settings look at the teacher's discriminator."""
    return bool(config.lambda_fea or (config.lambda_att and config.fusion != "none"))


def activations(judge: nn.Module) -> list[str]:
    """The paths of a discriminator's activations, in order.

    Raises:
        ValueError: if it has none.
    """
    found = [path for path, module in judge.named_modules() if isinstance(module, nn.LeakyReLU | nn.ReLU)]
    if not found:
        raise ValueError(f"the discriminator, a {type(judge).__name__}, has no activation to look at")
    return found


def nearest(layers: Sequence[Tensor], sizes: Sequence[tuple[int, int]], count: int) -> list[Tensor]:
    """Of a discriminator's features (B, C, h, w) so many that are, on average over the generator's taps, nearest in size; of
    equals the earlier ones (on a U-Net's taps the code's layer and two others are equally near)."""

    def ratio(layer: Tensor) -> float:
        h, w = layer.shape[2:]
        logs = sum(abs(math.log(h / height)) + abs(math.log(w / width)) for height, width in sizes)
        return round(logs, 6)

    return sorted(layers, key=ratio)[:count]


def check_taps(paths: Sequence[str], removed: Mapping[str, bool]) -> None:
    """Refuse taps inside what the search took away.

    Args:
        removed: the paths of modules that are gone, and whether each now passes its input on, and can be tapped itself.

    Raises:
        ValueError: naming the tap and the module.
    """
    for path in paths:
        for gone, passes in removed.items():
            if path.startswith(f"{gone}.") or (path == gone and not passes):
                raise ValueError(
                    f"method.taps: the search left nothing of {gone}, so {path} cannot be tapped: name the sum that it is "
                    "part of, or another layer (the search itself is kept)"
                )
