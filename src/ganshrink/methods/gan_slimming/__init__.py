"""GAN Slimming: Wang et al. 2020, "GAN Slimming: All-in-One GAN Compression by A Unified Optimization Framework".

A copy of the trained generator learns all at once to fool a discriminator, to make its teacher's images, to do with few
channels and, if asked, with few bits (Eq. 4). Channels whose scales reach zero are cut; what is left is finetuned on the
same objective without sparsity. Where the paper and its released code differ, the code's choice is the default.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganshrink.graph import trace
from ganshrink.losses import discriminator_loss, generator_loss
from ganshrink.methods.base import Job, Result
from ganshrink.methods.gan_slimming.config import PRESETS, VARIANTS, GanSlimmingConfig
from ganshrink.metrics.vgg import VGG, load_vgg
from ganshrink.pruning import Budget, Channels, Plan, extract, initialise
from ganshrink.pruning.allocate import bisect_threshold, share_of_each
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.scores import evenly, norm_scale
from ganshrink.pruning.search.gates import Gates
from ganshrink.pruning.search.sparsity import Sparsity, advice
from ganshrink.quant import QuantConfig, attached, spread
from ganshrink.quant.layers import check_excluded, still_there
from ganshrink.training import Update, adam, sgd, total_steps
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.tasks.pool import ImagePool
from ganshrink.training.tasks.task import joined
from ganshrink.training.train import Nets, Training, batches_of, describe, fit_nets

logger = logging.getLogger(__name__)

TRUNK = "several layers add up to it, and method.prune_trunk = false"
CALIBRATION = 32  # training images that show the range of activations, where it is not the paper's fixed one

Bits = QuantConfig | None
Distance = Callable[[Tensor, Tensor], Tensor]
"""d of Eq. 2: how far images (B, 3, H, W) in [-1, 1] are from the teacher's, a scalar."""


def gan_slimming(run: Run, job: Job, config: GanSlimmingConfig) -> Result:
    """GAN Slimming: distillation, channel sparsity and quantization in one objective, then finetuning."""
    variant, bits = VARIANTS[config.variant], config.quantization
    bits = bits or (QuantConfig() if variant.quantize_last else None)
    early = None if variant.quantize_last else bits
    channels = job.channels
    channels = channels if variant.narrow else _searched(channels, config)

    # What cannot work fails here, before anything is trained.
    _check(job, config)
    ties = torch.zeros(channels.num_atoms)
    job.check_reachable(lambda budget: _plan(_searched(channels, config), ties, budget, config))
    distance, watching = _distance(config)

    teacher = job.teacher()
    generator = folded_copy(job.original.transform(teacher["G"]))
    slimming = Slimming(run, job, config, teacher["G"], distance, watching)
    network, plan, basis = copy.deepcopy(generator), Plan.full(channels), {}
    nets = teacher if config.inherit_discriminator else {}
    if variant.narrow:
        plan = _narrow(job, generator, channels, config)
        network = extract(generator, channels, plan)
        only = None if variant.search else early
        nets, trained = slimming.train("narrow", network, nets, bits=only, distil=True, fresh=True)
    if variant.search:
        inner = _searched(trace(network, *job.example) if variant.narrow else channels, config)
        nets, scores = slimming.search(network, inner, nets, distil=variant.search_distance, bits=early)
        slimmed = slimming.plan(network, inner, scores)
        basis = {group.name: "scale under L1" for group in inner.groups if group.frozen is None}
        plan, network = slimmed.whole(inner, channels, plan), extract(network, inner, slimmed)
        nets, trained = slimming.train(
            "finetune", network, nets, distil=variant.finetune_distance, bits=early
        )
    if variant.quantize_last:
        _, trained = slimming.train("quantize", network, nets, distil=False, bits=bits)
    return Result(
        students={"G": network},
        plans={"G": plan},
        channels={"G": channels},
        originals={"G": generator},
        quantization=trained,
        basis=basis,
    )


@dataclass(frozen=True)
class Slimming:
    """The trainings of a run, and what they share."""

    run: Run
    job: Job
    config: GanSlimmingConfig
    teacher: nn.Module
    distance: Distance
    watching: Sequence[VGG]

    @property
    def vgg_hashes(self) -> list[str]:
        """Of the weights that the distance looks through: they decide the result."""
        return [vgg.sha256 for vgg in self.watching]

    def search(
        self, network: nn.Module, channels: Channels, nets: Nets, *, distil: bool, bits: Bits
    ) -> tuple[Nets, Tensor]:
        """Train the network, in place, on all of Eq. 4. Its nets, and what each atom's scales came to; -inf: it died."""
        job, config, training = self.job, self.config, self.job.training
        if config.search_epochs is not None:
            training = training.model_copy(update={"epochs": config.search_epochs, "decay_epochs": 0})

        def learn(stage: Stage) -> Artefacts:
            if config.start == "fresh" and not VARIANTS[config.variant].narrow:
                initialise(network)
            ranked = norm_scale(network, channels)  # own scales begin spread like those of norms
            gates = Gates(network, channels, floor=config.floor, initial=ranked)
            eta = sgd(gates.scales, lr=config.gamma_lr, momentum=config.gamma_momentum, schedule="cosine")
            steps = total_steps(batches_of(job.data, training), training)
            steered = steps if config.adaptive_rho else None
            sparsity = Sparsity(gates, channels, eta, rho=config.rho, budget=job.budget, steered=steered)
            trained, _ = self._fit(
                stage, network, nets, training, distil=distil, bits=bits, sparsity=sparsity
            )
            scores = gates.magnitudes()
            gates.fold()  # own scales are 1 from then on
            return {**_states(trained), "scores": {"magnitudes": scores}, "sparsity": sparsity.state_dict()}

        settings = config.model_dump(mode="json", exclude={"finetune_lr", "round_to"})
        made_from = {"method": settings, "vgg": self.vgg_hashes, **describe(job.task, job.data, training)}
        if config.adaptive_rho:
            made_from["budget"] = job.limits()
        found = self.run.stage("search", learn, made_from=made_from)
        scores = found["scores"]["magnitudes"]
        plan = self.plan(network, channels, scores)
        told = advice(channels, scores, plan, job.budget, steered=config.adaptive_rho, **found["sparsity"])
        logger.info(told)
        return self._loaded(network, found), scores

    def plan(self, network: nn.Module, channels: Channels, scores: Tensor) -> Plan:
        """What lives after the search, less the smallest scales if that is over the budget."""
        return self.job.plan_within(
            lambda budget: _plan(channels, scores, budget, self.config), network, channels
        )

    def train(
        self, name: str, network: nn.Module, nets: Nets, *, bits: Bits, distil: bool, fresh: bool = False
    ) -> tuple[Nets, Bits]:
        """Train a network, in place, on Eq. 4 without sparsity; perhaps without the distance, or from new weights. Its nets,
        and the quantizers with the ranges that it was trained under."""
        shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        settings = {"method": self.config.model_dump(mode="json"), "vgg": self.vgg_hashes, "shapes": shapes}

        def learn(stage: Stage) -> Artefacts:
            logger.info("%s: training the small network", name)
            if fresh:
                initialise(network)
            trained, under = self._fit(stage, network, nets, self.job.training, distil=distil, bits=bits)
            return {**_states(trained), "quantization": under and under.model_dump(mode="json")}

        found = self.run.stage(name, learn, made_from=settings | self.job.describe())
        under = found["quantization"]
        return self._loaded(network, found), under and QuantConfig(**under)

    def _fit(
        self,
        stage: Stage,
        network: nn.Module,
        nets: Nets,
        training: Training,
        *,
        distil: bool,
        bits: Bits,
        sparsity: Sparsity | None = None,
    ) -> tuple[Nets, Bits]:
        job, config = self.job, self.config
        task = job.task.as_student_task(self.teacher, target="teacher", real=config.real)
        trained = task.nets(network, job.data.in_channels, job.data.out_channels)
        if "D" in trained and "D" in nets:
            trained["D"] = copy.deepcopy(nets["D"])
        updates = self._updates(trained, task, distil=distil, sparsity=sparsity)
        if sparsity is not None:
            trained["gates"] = sparsity.gates
        if sparsity is not None or bits is not None:  # hooks change what the network computes
            training = training.model_copy(update={"compile": False})
        options: Any = {"updates": updates, "frozen": self.watching, "progress": job.progress}
        if bits is None:
            fit_nets(stage, trained, task, job.data, training, **options)
            return trained, None
        bits = bits.model_copy(update={"exclude": still_there(network, bits.exclude)})
        with attached(network, bits, job.example, spread(job.data, CALIBRATION)) as quantizers:
            fit_nets(stage, trained, task, job.data, training, **options)
            return trained, quantizers.ranged()

    def _updates(self, nets: Nets, task: Any, *, distil: bool, sparsity: Sparsity | None) -> list[Update]:
        """G with its scales, then D (Algorithm 1)."""
        config, preset, gan = self.config, PRESETS[self.config.optimizer], task.config
        pool = ImagePool(0 if task.conditional else config.pool)  # an earlier image belongs to another input
        rate = (config.lr or preset.lr) if sparsity else (config.finetune_lr or preset.finetune_lr)
        decay, schedule = preset.weight_decay, preset.schedule

        def optimizer(parameters: Any) -> Any:
            return adam(parameters, lr=rate, betas=preset.betas, weight_decay=decay, schedule=schedule)

        def generate(context: Any) -> Iterator[dict[str, Tensor]]:
            losses = {}
            if gan.lambda_gan:
                scores = _one_score(context.scores(context.fake))
                losses["G_gan"] = gan.lambda_gan * generator_loss(scores, mode=gan.gan_mode)
            if distil and config.beta:
                losses["G_dist"] = config.beta * self.distance(context.fake, context.taught)
            yield joined(losses, getattr(task, "terms", ()), context)

        def judge(context: Any) -> Iterator[dict[str, Tensor]]:
            real = _one_score(context.scores(context.real))
            fake = _one_score(context.scores(pool.exchange(context.fake.detach())))
            d_real, d_fake = discriminator_loss(real, fake, mode=gan.gan_mode)
            yield {"D_real": d_real, "D_fake": d_fake}

        scales = () if sparsity is None else sparsity.gates.scales
        weights = [p for p in nets["G"].parameters() if not any(p is scale for scale in scales)]
        generation = Update("G", [optimizer(weights)], generate)
        if sparsity is not None:
            # Eqs. 12 to 14: a step of gradient descent on the scales, then the soft threshold
            generation.optimizers = [*generation.optimizers, sparsity.optimizer]
            generation.after = lambda context: sparsity.step(context.step)
            generation.state, generation.watch = {"sparsity": sparsity}, sparsity.watch
        if "D" not in nets:
            return [generation]
        judging = Update("D", [optimizer(nets["D"].parameters())], judge, state={"pool": pool})
        return [generation, judging]

    def _loaded(self, network: nn.Module, found: Artefacts) -> Nets:
        """The nets of a stage that is done, the network itself among them."""
        network.load_state_dict(found["G"])
        task = self.job.task.as_student_task(self.teacher)
        nets = task.nets(network, self.job.data.in_channels, self.job.data.out_channels)
        for name, net in nets.items():
            net.load_state_dict(found[name])
        return nets


def _states(nets: Nets) -> Artefacts:
    return {name: net.state_dict() for name, net in nets.items() if name != "gates"}


def _one_score(scores: Tensor) -> Tensor:
    """D's scores (B, 1, h, w) of patches as one for each image: the released code averages them before the loss."""
    return scores.mean(dim=(1, 2, 3))


def _distance(config: GanSlimmingConfig) -> tuple[Distance, tuple[VGG, ...]]:
    """d of Eq. 2, and the network that it looks through, if any."""
    variant = VARIANTS[config.variant]
    used = config.beta and (variant.narrow or variant.search_distance or variant.finetune_distance)
    if config.distance == "mse" or not used:
        return (lambda fake, taught: mse_loss(fake.float(), taught.float())), ()
    vgg = load_vgg(config.vgg)
    weight = vgg.style_weight if config.style_weight is None else config.style_weight
    return (lambda fake, taught: vgg.distance(fake, taught, style_weight=weight)), (vgg,)


def _searched(channels: Channels, config: GanSlimmingConfig) -> Channels:
    """What a search may cut. The released code leaves the residual trunk alone.

    Raises:
        ValueError: if nothing is left.
    """
    trunk = [n for n, g in enumerate(channels.groups) if g.frozen is None and len(g.producers) > 1]
    if VARIANTS[config.variant].search and not config.prune_trunk:
        channels = channels.refrozen(dict.fromkeys(trunk, TRUNK))
    if all(group.frozen is not None for group in channels.groups):
        reasons = "; ".join(sorted({str(group.frozen) for group in channels.groups}))
        raise ValueError(f"no channel of this generator may be cut: {reasons}")
    return channels


def _narrow(job: Job, generator: nn.Module, channels: Channels, config: GanSlimmingConfig) -> Plan:
    """A network that keeps the same share of every layer: as many as the budget allows if nothing is pruned after."""
    if not VARIANTS[config.variant].search:
        even = evenly(channels)
        return job.plan_within(lambda budget: _plan(channels, even, budget, config), generator, channels)
    return share_of_each(channels, config.width)


def _plan(channels: Channels, scores: Tensor, budget: Budget, config: GanSlimmingConfig) -> Plan:
    """What lives after the search, less the smallest scales if that is over the budget.

    Raises:
        ValueError: if the budget cannot be met, with the smallest reachable cost.
    """
    try:
        return bisect_threshold(channels, scores, budget, floor=config.floor, round_to=config.round_to)
    except ValueError as error:
        if all(group.frozen != TRUNK for group in channels.groups):
            raise
        raise ValueError(f"{error}; less with method.prune_trunk = true") from None


def _check(job: Job, config: GanSlimmingConfig) -> None:
    """Refuse settings under which nothing would be learned, or that the data cannot serve."""
    gan = getattr(job.task.config, "lambda_gan", 0)
    variant = VARIANTS[config.variant]
    blind = not (variant.search_distance and variant.finetune_distance) or variant.quantize_last
    if not gan and (blind or not config.beta):
        what = f"method.variant = {config.variant!r}" if config.beta else "method.beta = 0"
        raise ValueError(
            f"{what} leaves nothing but the GAN loss, and task.lambda_gan is 0: set it, to 1 say"
        )
    fresh = variant.narrow or config.start == "fresh"
    if fresh and config.quantization is not None and config.quantization.activations == "observed":
        raise ValueError(
            "method.quantization.activations = 'observed' sees ranges of random weights: with new weights use 'fixed'"
        )
    if config.adaptive_rho and not config.rho:
        raise ValueError(
            "method.adaptive_rho multiplies method.rho, which is 0: give it a start, such as 0.01"
        )
    if config.quantization is not None:
        check_excluded(job.build(), config.quantization.exclude)
    if config.real == "photos" and "target" not in job.data.sample(0, None):
        raise ValueError(
            "method.real = 'photos' shows D images of the target domain, and these data have none: use 'teacher'"
        )
