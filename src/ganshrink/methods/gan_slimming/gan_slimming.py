"""GAN Slimming: Wang et al. 2020, "GAN Slimming: All-in-One GAN Compression by A Unified Optimization Framework".

A copy of the trained generator learns all at once to fool a discriminator, to make its teacher's images, to do with few
channels and, if asked, with few bits (Eq. 4). Channels whose scales reach zero are cut; what is left is finetuned on the
same objective without sparsity. Where the paper and its released code differ, the code's choice is the default.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from ganshrink.graph import trace
from ganshrink.losses import discriminator_loss, generator_loss
from ganshrink.methods.base import Job, Result
from ganshrink.methods.distill import begun, refit, start_of
from ganshrink.methods.gan_slimming.config import GanSlimmingConfig, NarrowConfig, SearchConfig, changed
from ganshrink.methods.gan_slimming.section import about_dead, ratios
from ganshrink.metrics.vgg import VGG, load_vgg
from ganshrink.pruning import Budget, Channels, Plan, extract
from ganshrink.pruning.allocate import bisect_threshold, share_of_each
from ganshrink.pruning.folding import folded_copy
from ganshrink.pruning.scores import evenly, norm_scale
from ganshrink.pruning.search.gates import Gates
from ganshrink.pruning.search.sparsity import Sparsity, advice
from ganshrink.quant import QuantConfig, Quantizers, attached, spread
from ganshrink.quant.layers import check_excluded, still_there
from ganshrink.system.copies import copied
from ganshrink.training import Update, adam, extended, sgd, total_steps
from ganshrink.training.stages import Artefacts, Run, Stage
from ganshrink.training.taps import activations, features_of
from ganshrink.training.tasks.pool import ImagePool
from ganshrink.training.tasks.task import RealImages, joined
from ganshrink.training.train import Nets, Start, Training, batches_of, describe, train_stage

logger = logging.getLogger(__name__)

TRUNK = "several layers add up to it, and method.prune_trunk = false"
SETTLED = 8  # training images on which it is seen what dead channels still carry
CALIBRATION = 32  # training images that show the range of activations, where it is not the paper's fixed one


def gan_slimming(run: Run, job: Job, config: GanSlimmingConfig) -> Result:
    """GAN Slimming: distillation, channel sparsity and quantization in one objective, then finetuning."""
    stages = config.stages
    channels = job.channels if "narrow" in stages else _searched(job.channels, config)

    # What cannot work fails here, before anything is trained.
    _check(job, config)
    ties = torch.zeros(channels.num_atoms)
    job.check_reachable(lambda budget: _plan(_searched(channels, config), ties, budget, config))
    own = config.beta and any("d" in parts and not _by_features(config, s) for s, parts in stages.items())
    vgg = load_vgg(config.vgg) if own and config.distance == "perceptual" else None

    teacher = job.teacher()
    if config.search.fixed_discriminator and "search" in stages and "D" not in teacher:
        raise ValueError(
            "method.search.fixed_discriminator keeps the teacher's discriminator, and it came without: name it as "
            "teacher.discriminator"
        )
    generator = folded_copy(job.original.transform(teacher["G"]))
    train = partial(_train, run, job, config, vgg)
    nets = {**(teacher if config.inherit_discriminator else {}), "G": copied(generator)}
    plan, basis, dead = Plan.full(channels), {}, None
    if "narrow" in stages:
        plan = share_of_each(channels, config.narrow.width)
        if "search" not in stages:  # then it has to keep the budget
            even = evenly(channels)
            plan = job.plan_within(lambda budget: _plan(channels, even, budget, config), generator, channels)
        nets, found = train("narrow", {**nets, "G": extract(generator, channels, plan)}, whole=generator)
    if "search" in stages:
        network = nets["G"]
        searched = (
            _searched(trace(network, *job.example, exact=True), config) if "narrow" in stages else channels
        )
        nets, found = train("search", nets, searched)
        scores = found["scores"]["magnitudes"]
        lives = job.plan_within(lambda budget: _plan(searched, scores, budget, config), network, searched)
        steered = config.search.adaptive_rho
        logger.info(advice(searched, scores, lives, job.budget, steered=steered, **found["sparsity"]))
        dead = found["dead"]
        basis = {group.name: "scale under L1" for group in searched.free}
        plan = lives.whole(searched, channels, plan)
        nets, found = train("finetune", {**nets, "G": extract(nets["G"], searched, lives)}, whole=nets["G"])
    if "quantize" in stages:
        nets, found = train("quantize", nets)
    bits = QuantConfig(**found["quantization"]) if found["quantization"] else None
    of_one = nets["G"], plan, channels, generator
    sections = {"G": [ratios(generator, nets["G"], channels, plan, bits, dead)]}
    return Result.of_one(*of_one, quantization=bits, basis=basis, sections=sections)


def objective(
    config: GanSlimmingConfig,
    vgg: VGG | None,
    stage: str,
    task: Any,
    nets: Nets,
    sparsity: Sparsity | None = None,
    judge_of_teacher: nn.Module | None = None,
) -> list[Update]:
    """Eq. 4, or those parts of it that a stage has: minimised over G's weights W and scales gamma, maximised over D's theta
    (Eq. 5), in the order of Algorithm 1. The quantizers q_a and q_w are hooks on G.

    Args:
        judge_of_teacher: the teacher's D, whose features a narrow student is distilled by.
    """
    gan = task.config
    pool = ImagePool(0 if task.conditional else config.pool)  # an earlier image belongs to another input

    def judged(context: Any, image: Tensor) -> Tensor:
        # D's scores of patches as one for each image: the released code averages them before the loss
        return context.scores(image).mean(dim=(1, 2, 3))  # type: ignore[no-any-return]

    def generate(context: Any) -> Iterator[dict[str, Tensor]]:  # Eqs. 6 and 11
        losses = {}
        if gan.lambda_gan:
            scores = judged(context, context.fake)
            losses["G_gan"] = gan.lambda_gan * generator_loss(scores, mode=gan.gan_mode)
        if _by_features(config, stage):
            losses["G_dist"] = _gd(config.narrow, gan.lambda_recon, judge_of_teacher, context)
        elif "d" in config.stages[stage] and config.beta:
            losses["G_dist"] = config.beta * _distance(config, vgg, context.fake, context.taught)
        yield joined(losses, getattr(task, "terms", ()), context)

    def judge(context: Any) -> Iterator[dict[str, Tensor]]:  # Eq. 15
        real = judged(context, context.real)
        fake = judged(context, pool.exchange(context.fake.detach()))
        d_real, d_fake = discriminator_loss(real, fake, mode=gan.gan_mode)
        losses = {"D_real": d_real, "D_fake": d_fake}
        if _by_features(config, stage) and config.narrow.lambda_triplet:
            losses["D_triplet"] = _triplet(config.narrow, context)
        yield losses

    adapted: Any = partial(adam, **config.adam(stage, gan))
    scales = () if sparsity is None else sparsity.gates.scales
    weights = [p for p in nets["G"].parameters() if not any(p is scale for scale in scales)]
    updates = [Update("G", [adapted(weights)], generate)]
    if sparsity is not None:
        # rho |gamma|: a step of gradient descent on the scales, then the soft threshold (Eqs. 12 to 14)
        more: Any = {"state": {"sparsity": sparsity}, "watch": sparsity.watch}
        more["after"] = lambda context: sparsity.step(context.step)
        updates = extended(updates, "G", optimizers=[sparsity.optimizer], **more)
    if "D" in nets and not (stage == "search" and config.search.fixed_discriminator):
        updates.append(Update("D", [adapted(nets["D"].parameters())], judge, state={"pool": pool}))
    return updates


def _train(
    run: Run,
    job: Job,
    config: GanSlimmingConfig,
    vgg: VGG | None,
    name: str,
    nets: Nets,
    channels: Channels | None = None,
    whole: nn.Module | None = None,
) -> tuple[Nets, Artefacts]:
    """A stage: G, and D, which begins as the given one where there is one, trained on the stage's parts of Eq. 4.

    Args:
        channels: G's structure, where its scales are drawn to zero.
        whole: what G was cut from, where it was cut for this stage.

    Returns:
        the nets, and what was kept: "quantization", what G was trained under; "scores", what each atom's scales came to,
        -inf where it died; "dead", how many did, and what cutting them changes.
    """
    network, given, search, training = nets["G"], nets.get("D"), config.search, job.training
    task = job.task.as_student_task(job.teacher()["G"], target="teacher", real=_real(job, config, name))
    other: dict[str, Any] = {"batch_size": config.table(name).batch_size or training.batch_size}
    if name == "search" and search.epochs is not None:
        other |= {"epochs": search.epochs, "decay_epochs": 0}
    training = training.model_copy(update=other)
    if name == "search":  # what has died must not live on in an average
        training = training.for_search()
    judge = job.teacher().get("D") if _by_features(config, name) else None
    fresh = next(iter(config.stages)) == name and (name == "narrow" or search.start == "fresh")

    start: Start = "fresh" if fresh else "inherit"
    start = start if whole is None else start_of(job, start)

    def make() -> Nets:
        student = begun(network, start)
        made = job.nets(student, task)
        return made | {"D": copied(given)} if "D" in made and given is not None else made

    def learn(stage: Stage, made: Nets) -> Artefacts:
        reconstructed = {} if whole is None else refit(network, whole, job, start)
        rate = config.adam(name, task.config)["lr"]
        logger.info("%s: training at rate %.3g, %d images a step", name, rate, training.batch_size)
        drawn = channels if "rho" in config.stages[name] else None
        sparsity = None if drawn is None else _sparsity(job, search, training, network, drawn)
        updates = objective(config, vgg, name, task, made, sparsity, judge)
        gates = {} if sparsity is None else {"gates": sparsity.gates}
        watching = [net for net in (vgg, judge) if net is not None]
        with _few_bits(job, config, name, network) as bits:
            how: Any = {"hooked": sparsity is not None or bits is not None, "frozen": watching}
            replace(job, training=training).fit(stage, {**made, **gates}, task, updates=updates, **how)
            kept: Artefacts = {
                **reconstructed,
                "quantization": bits and bits.ranged().model_dump(mode="json"),
            }
            if sparsity is not None:
                kept["dead"] = _silenced(job, sparsity)
        if sparsity is not None:
            kept |= {"scores": {"magnitudes": sparsity.gates.magnitudes()}, "sparsity": sparsity.state_dict()}
            sparsity.gates.fold()  # own scales are 1 from then on
        return kept

    shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    stamp = {"method": config.for_stage(name), "vgg": vgg and vgg.sha256, "shapes": shapes}
    if "rho" in config.stages[name] and search.adaptive_rho:
        stamp["budget"] = job.limits()
    stamp |= describe(job.task, job.data, training, job.validation)
    return train_stage(run, name, make, learn, made_from=stamp)


def _sparsity(
    job: Job, config: SearchConfig, training: Training, network: nn.Module, channels: Channels
) -> Sparsity:
    """rho |gamma| of Eq. 4: the scales, and what moves them."""
    ranked = norm_scale(network, channels)  # own scales begin spread like those of norms
    gates = Gates(network, channels, floor=config.floor, initial=ranked, revive=config.revive)
    eta = sgd(gates.scales, lr=config.gamma_lr, momentum=config.gamma_momentum, schedule="cosine")
    steps = total_steps(batches_of(job.data, training), training) if config.adaptive_rho else None
    return Sparsity(gates, channels, eta, rho=config.rho, budget=job.budget, steered=steps)


def _silenced(job: Job, sparsity: Sparsity) -> dict[str, Any]:
    """Silence the channels that died, for good; how many these are, and by how much that moves the images."""
    gates = sparsity.gates
    counts = {"channels": int(gates.dead.sum()), "of": sparsity.channels.prunable}
    dead: dict[str, Any] = {**counts, "moved": gates.settle(spread(job.data, SETTLED))}
    logger.info("in the search %s", about_dead(**dead))
    return dead


def _few_bits(
    job: Job, config: GanSlimmingConfig, stage: str, network: nn.Module
) -> AbstractContextManager[Quantizers | None]:
    """q_a and q_w (Eqs. 7 to 10), where a stage has them."""
    bits = config.quantization or (QuantConfig() if stage == "quantize" else None)
    if bits is None or "q" not in config.stages[stage]:
        return nullcontext()
    bits = bits.model_copy(update={"exclude": still_there(network, bits.exclude)})
    return attached(network, bits, job.example, spread(job.data, CALIBRATION))


def _distance(config: GanSlimmingConfig, vgg: VGG | None, fake: Tensor, taught: Tensor) -> Tensor:
    """d of Eq. 2: how far images (B, 3, H, W) in [-1, 1] are from the teacher's, a scalar."""
    if vgg is None:
        return mse_loss(fake.float(), taught.float())
    weight = vgg.style_weight if config.style_weight is None else config.style_weight
    return vgg.distance(fake, taught, style_weight=weight)


def _by_features(config: GanSlimmingConfig, stage: str) -> bool:
    """Whether a stage distils as GD does."""
    return stage == "narrow" and config.narrow.loss == "gd"


def _gd(config: NarrowConfig, weight: float, judge: nn.Module | None, context: Any) -> Tensor:
    """The distillation of Chen et al. 2020 ("Distilling Portable Generative Adversarial Networks for Image Translation"):
    L1 distances to the teacher's images and, in the last hidden layer of the teacher's D, to their features."""
    fake, taught = context.fake.float(), context.taught.float()
    loss = weight * l1_loss(fake, taught)
    if judge is None or not config.lambda_feature:
        return loss
    mine, theirs = _seen_by(judge, context, fake, taught)
    return loss + config.lambda_feature * l1_loss(mine, theirs)


def _triplet(config: NarrowConfig, context: Any) -> Tensor:
    """The triplet loss of Chen et al. 2020: in the student's D photos are nearer to the teacher's images than to the
    student's, by a margin."""
    images = context.batch["target"], context.taught, context.fake.detach()
    photo, theirs, mine = _seen_by(context.nets["D"], context, *images)
    near, far = ((photo - other).abs().flatten(1).mean(1) for other in (theirs, mine))
    return config.lambda_triplet * (near - far + config.triplet_margin).clamp_min(0).mean()


def _seen_by(judge: nn.Module, context: Any, *images: Tensor) -> Iterator[Tensor]:
    """Features of images (B, C, H, W) in a D's last hidden layer."""
    seen, last = context.ways["G"].seen, activations(judge)[-1:]
    return (features_of(judge, seen(image), last)[0] for image in images)


def _real(job: Job, config: GanSlimmingConfig, stage: str) -> RealImages:
    """What a stage's D sees as real. The ablation's pruning without distillation knows no teacher (Eq. 1)."""
    if config.real is not None or "d" in config.stages[stage]:
        return config.real or "teacher"
    if "target" in job.data.sample(0, None):
        return "photos"
    logger.warning(
        "%s: the data have no images of the target domain, so D sees the teacher's: this distils by way of D",
        stage,
    )
    return "teacher"


def _searched(channels: Channels, config: GanSlimmingConfig) -> Channels:
    """What a search may cut. The released code leaves the residual trunk alone.

    Raises:
        ValueError: if nothing is left.
    """
    trunk = [n for n, g in enumerate(channels.groups) if g.frozen is None and len(g.producers) > 1]
    if "search" in config.stages and not config.prune_trunk:
        channels = channels.refrozen(dict.fromkeys(trunk, TRUNK))
    channels.check_free()
    return channels


def _plan(channels: Channels, scores: Tensor, budget: Budget, config: GanSlimmingConfig) -> Plan:
    """What lives after the search, less the smallest scales if that is over the budget.

    Raises:
        ValueError: if the budget cannot be met, with the smallest reachable cost.
    """
    limits: Any = {"floor": config.search.floor, "round_to": config.finetune.round_to}
    try:
        return bisect_threshold(channels, scores, budget, **limits)
    except ValueError as error:
        if all(group.frozen != TRUNK for group in channels.groups):
            raise
        raise ValueError(f"{error}; less with method.prune_trunk = true") from None


def _check(job: Job, config: GanSlimmingConfig) -> None:
    """Refuse settings under which nothing would be learned, or that the data cannot serve."""
    gan, bits, search = getattr(job.task.config, "lambda_gan", 0), config.quantization, config.search
    blind = any("d" not in parts for parts in config.stages.values())
    name, weight = "method.beta", config.beta
    if all(_by_features(config, stage) for stage in config.stages):
        name, weight = "task.lambda_recon", getattr(job.task.config, "lambda_recon", 0)
    if not gan and (blind or not weight):
        what = f"method.variant = {config.variant!r}" if weight else f"{name} = 0"
        raise ValueError(
            f"{what} leaves nothing but the GAN loss, and task.lambda_gan is 0: set it, to 1 say"
        )
    if changed(job.task.config, "lambda_recon") and not any(_by_features(config, s) for s in config.stages):
        logger.warning(
            "task.lambda_recon is not read by this student: method.beta weighs its distance to the teacher's images"
        )
    fresh = "narrow" in config.stages or search.start == "fresh"
    if fresh and bits is not None and bits.activations == "observed":
        raise ValueError(
            "method.quantization.activations = 'observed' sees ranges of random weights: with new weights use 'fixed'"
        )
    if search.adaptive_rho and not search.rho:
        raise ValueError(
            "method.search.adaptive_rho multiplies method.search.rho, which is 0: give it a start, such as 0.01"
        )
    if search.fixed_discriminator and not (gan and config.inherit_discriminator):
        raise ValueError(
            "method.search.fixed_discriminator is about the teacher's D: set task.lambda_gan, to 1 say, and "
            "method.inherit_discriminator = true"
        )
    if bits is not None:
        check_excluded(job.build(), bits.exclude)
    with_target = "target" in job.data.sample(0, None)
    if config.real == "photos" and not with_target:
        raise ValueError(
            "method.real = 'photos' shows D images of the target domain, and these data have none: use 'teacher'"
        )
    triplet = config.narrow.lambda_triplet and any(_by_features(config, stage) for stage in config.stages)
    if triplet and not (gan and with_target):
        raise ValueError(
            "method.narrow.lambda_triplet compares images of the target domain in D: it needs data that have them, and "
            "task.lambda_gan, 1 say"
        )
