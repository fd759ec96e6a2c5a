"""Stage 2 (section 3.2): two teachers go on learning from labelled pairs, and a student without a discriminator learns
from both online, on labelled images and on those unlabelled ones whose pseudo-labels a discriminator lets through."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganshrink.methods.ugc.config import UgcConfig
from ganshrink.methods.ugc.teaching import DistillationLoss
from ganshrink.system.distributed import mean_over_processes
from ganshrink.system.generator import generate
from ganshrink.training import Context, Forward, Taps, Update, adam
from ganshrink.training.tasks import Task
from ganshrink.training.train import Nets

TEACHERS = ("wide", "deep")


@dataclass
class OnlineContext(Context):
    """What one step knows: the contexts that the task makes of it for each teacher."""

    labelled: Mapping[str, Any]
    unlabelled: Mapping[str, Any]


class RealnessFilter:
    """Phi of Eq. 8: which unlabelled images count, by how real D finds what a teacher made of them.

    As printed, images that D rates above its average count only every second time, and bad ones always, against the aim
    to "improve the pseudo-label quality": the default is the other way round. The average moves after the decision.
    """

    def __init__(self, config: UgcConfig) -> None:
        self.config = config
        self.average: dict[str, float] = {}
        self.updates: dict[str, int] = dict.fromkeys(TEACHERS, 0)
        self.kept: dict[str, float] = dict.fromkeys(TEACHERS, 1.0)

    def __call__(self, name: str, scores: Tensor) -> Tensor:
        """Weights (B,) of 0 or 1 for a teacher's images, from D's mean scores of each (B,)."""
        config, average = self.config, self.average.get(name)
        mean = float(mean_over_processes(scores.detach().float().mean()))
        phi = torch.ones_like(scores, dtype=torch.float32)
        if average is not None and self.updates[name] >= config.filter_after:
            good = scores >= average if config.filter == "realness" else scores <= average
            phi = torch.where(good, phi, torch.randint(2, scores.shape, device=scores.device).float())
        self.average[name] = mean if average is None else config.ema * average + (1 - config.ema) * mean
        self.updates[name] += 1
        self.kept[name] = float(phi.mean())
        return phi

    def watch(self) -> dict[str, float]:
        """For the log: the share that counted in the last step, and the average."""
        kept = {f"kept_{name}": self.kept[name] for name in TEACHERS}
        return kept | {f"realness_{name}": value for name, value in self.average.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"average": dict(self.average), "updates": dict(self.updates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.updates = dict(state_dict["average"]), dict(state_dict["updates"])


class OnlineDistillation:
    """The updates of Eq. 6.

    Args:
        task: one that learns from pairs.
        nets: "G", the student; "wide" and "deep", its teachers; "D_wide" and "D_deep", their discriminators, which may
            share layers; none of these where the task has no GAN loss; "connectors", where channels are distilled.
        lesson: L_OD.
        taps: on the student as "G" and on the wide teacher as "wide", where channels are distilled.
    """

    def __init__(
        self,
        task: Task,
        nets: Nets,
        lesson: DistillationLoss,
        config: UgcConfig,
        taps: Mapping[str, Taps] | None = None,
    ) -> None:
        self.task, self.nets, self.lesson, self.config = task, nets, lesson, config
        self.filter = RealnessFilter(config)
        self.of_teacher = {name: self._of_teacher(name) for name in TEACHERS}
        self.taps = taps or {}
        self.forwards = {
            name: task.forward(found, {"G": self.taps[name]} if name in self.taps else None)
            for name, found in self.of_teacher.items()
        }

    def _of_teacher(self, name: str) -> Nets:
        judge = {"D": self.nets[f"D_{name}"]} if f"D_{name}" in self.nets else {}
        return {"G": self.nets[name], **judge}

    def forward(self) -> Forward:
        """How a batch becomes a context."""

        def context(batch: dict[str, Any], step: int, epoch: int) -> OnlineContext:
            def all_of(part: dict[str, Any]) -> dict[str, Any]:
                return {name: forward(part, step, epoch) for name, forward in self.forwards.items()}

            unlabelled = {"input": batch["unlabelled"]} if "unlabelled" in batch else {}
            return OnlineContext(batch, step, epoch, all_of(batch), all_of(unlabelled))

        return context

    def updates(self) -> list[Update]:
        """At every n-th step D, then the teachers, as in stage 1 (Eq. 4); at every step the student (Eqs. 7 and 9)."""
        own = {
            name: {update.name: update for update in self.task.updates(nets)}
            for name, nets in self.of_teacher.items()
        }
        taught = [
            self._joint(kind, [own[name][kind] for name in TEACHERS])
            for kind in ("D", "G")
            if kind in own["wide"]
        ]
        settings: Any = self.task.config
        betas = (settings.beta1, settings.beta2)
        learning = [net for name, net in self.nets.items() if name in ("G", "connectors")]
        optimizer = adam([p for net in learning for p in net.parameters()], lr=settings.lr, betas=betas)
        student = Update(
            "student", [optimizer], self._learn, state={"filter": self.filter}, watch=self.filter.watch
        )
        return [*taught, student]

    def _joint(self, kind: str, updates: Sequence[Update]) -> Update:
        """Both teachers' updates as one. A layer that their discriminators share is stepped once."""
        first, second = (update.optimizers[0] for update in updates)
        known = {id(p) for group in first.param_groups for p in group["params"]}
        for group in second.param_groups:
            others = [p for p in group["params"] if id(p) not in known]
            if others:
                first.add_param_group({**group, "params": others})

        def losses(context: OnlineContext) -> Iterator[dict[str, Tensor]]:
            if (
                self.config.finetune_unlabelled
            ):  # what the student learns from is from before this step's updates
                for one in context.unlabelled.values():
                    taught(one)
            for name, update in zip(TEACHERS, updates, strict=True):
                for terms in update.losses(context.labelled[name]):
                    yield {f"{name}_{term}": loss for term, loss in terms.items()}

        name = "D" if kind == "D" else "teachers"
        return Update(name, [first], losses, every=self.config.teachers_every)

    def _learn(self, context: OnlineContext) -> Iterator[dict[str, Tensor]]:
        yield self._online("A", context.labelled)  # Eq. 7
        if self.config.finetune_unlabelled:
            yield self._online("U", context.unlabelled, filtered=True)  # Eq. 9

    def _online(self, part: str, contexts: Mapping[str, Any], *, filtered: bool = False) -> dict[str, Tensor]:
        """L_OD of the student's images to those of both teachers, term by term."""
        made = self.lesson.look(generate(self.nets["G"], contexts["wide"].input))
        mine = self.taps["G"].take() if self.taps else {}
        total: dict[str, Tensor] = {}
        for name in TEACHERS:
            image = taught(contexts[name])
            phi = self._phi(name, contexts[name], image) if filtered else None
            for term, loss in self.lesson.losses(made, self.lesson.look(image), phi).items():
                total[f"{part}_{term}"] = total.get(f"{part}_{term}", 0) + loss
        if mine and not filtered:  # OMGD's, which has labelled images alone
            distance = self.nets["connectors"].distance(mine, contexts["wide"].features("G"))  # type: ignore[operator]
            total[f"{part}_cd"] = self.config.lambda_cd * distance
        return total

    def _phi(self, name: str, context: Any, image: Tensor) -> Tensor | None:
        if self.config.filter == "none" or f"D_{name}" not in self.nets:
            return None
        with torch.no_grad():
            return self.filter(name, context.scores(image).float().flatten(1).mean(1))


def taught(context: Any) -> Tensor:
    """A teacher's image of this step, from before its own update where it had one. (A training that accumulates batches
    makes the images anew for each update, so that this one is then from after it.)"""
    with torch.no_grad():
        image: Tensor = context.fake
    return image.detach()


def two_headed(judge: nn.Module, shared: int) -> Nets:
    """OMGD's partially shared discriminator: one for each teacher, whose first so many convolutions are the same modules.

    Args:
        judge: a PatchGAN, which becomes the wide teacher's.
    """
    other = copy.deepcopy(judge)
    ours, theirs = judge.layers, other.layers
    seen = 0
    for place, layer in enumerate(ours):  # type: ignore[arg-type]
        seen += isinstance(layer, nn.Conv2d)
        if seen > shared:
            break
        theirs[place] = layer  # type: ignore[index,operator]
    return {"D_wide": judge, "D_deep": other}
