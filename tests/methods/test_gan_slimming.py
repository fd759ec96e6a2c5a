"""GAN Slimming against its paper: one step by hand, what D sees, what may be cut, and quantizers on gated networks."""

import copy

import numpy as np
import pytest
import tiny_slimming as tiny
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ganshrink import nets
from ganshrink.data import Batches
from ganshrink.graph import trace
from ganshrink.methods.gan_slimming import GanSlimmingConfig, gan_slimming
from ganshrink.methods.gan_slimming.gan_slimming import objective
from ganshrink.pruning import Channels, Plan, add_affine, extract, zeroed
from ganshrink.pruning.scores import norm_scale
from ganshrink.pruning.search.gates import Gates
from ganshrink.quant import QuantConfig, Quantizers
from ganshrink.training.stages import Run
from ganshrink.training.tasks import Pix2Pix, Pix2PixConfig
from telling import rest_exhaustive

BETA, RHO, ETA, LR, STEPS, POOL = 3.0, 0.5, 0.2, 1e-2, 3, 2


def straight() -> nn.Module:
    """A convolution without a norm (0), one with a norm (2), and a head (5)."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(5, 6, 3, padding=1, bias=False),  # a bias before a norm has no gradient but rounding errors
        nn.InstanceNorm2d(6, affine=True),
        nn.ReLU(),
        nn.Conv2d(6, 3, 3, padding=1),
        nn.Tanh(),
    )
    with torch.no_grad():
        network[3].weight.copy_(torch.tensor([0.05, 0.9, 0.12, 0.6, -0.7, 0.4]))
        network[3].bias.normal_(0, 0.3)
    return network


class ByHand:
    """Algorithm 1 with lsgan's numbers and the pixels' distance, for `straight` alone."""

    def __init__(self, teacher: nn.Module, judge: nn.Module, optimizer: str, revive: bool) -> None:
        self.revive = revive
        self.teacher, self.net, self.judge = teacher, copy.deepcopy(teacher), copy.deepcopy(judge)
        conv, self.norm = self.net[0], self.net[3]
        # a convolution without a norm gets scales: those of the norms at the ranks of its filters' L2 norms
        ranks = conv.weight.detach().flatten(1).norm(dim=1).argsort().argsort()
        own = torch.quantile(self.norm.weight.detach().abs().double(), (ranks.double() + 0.5) / 5).float()
        self.own = nn.Parameter(own)
        with torch.no_grad():
            conv.weight /= own.view(-1, 1, 1, 1)
            conv.bias /= 1 if revive else own
        self.scales = (self.own, self.norm.weight)
        self.speed = [torch.zeros_like(scale) for scale in self.scales]
        self.dead = [torch.zeros(5, dtype=torch.bool), torch.zeros(6, dtype=torch.bool)]
        how = {"code": ((0.5, 0.999), 1e-3), "paper": ((0.9, 0.5), 0.0)}[optimizer]
        weights = [p for name, p in self.net.named_parameters() if name != "3.weight"]
        self.adams = [
            torch.optim.Adam(list(params), lr=LR, betas=how[0], weight_decay=how[1])
            for params in (weights, self.judge.parameters())
        ]
        self.pool: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        conv = self.net[0]
        bias = conv.bias if self.revive else conv.bias * self.own
        made = conv2d(x, conv.weight * self.own.view(-1, 1, 1, 1), bias, padding=1)
        return self.net[1:](made)

    def score(self, image: Tensor) -> Tensor:
        return self.judge(image).mean((1, 2, 3))

    def from_pool(self, images: Tensor) -> Tensor:
        shown = []
        for image in images:
            if len(self.pool) < POOL:
                self.pool.append(image)
            elif torch.rand(()) >= 0.5:
                place = int(torch.randint(POOL, ()))
                image, self.pool[place] = self.pool[place], image
            shown.append(image)
        return torch.stack(shown)

    def step(self, x: Tensor, *, rate: float, eta: float) -> dict[str, float]:
        """`rate`: of Adam; `eta`: of the scales."""
        for adam in self.adams:
            adam.param_groups[0]["lr"] = rate
        with torch.no_grad():
            taught = torch.cat([self.teacher(image) for image in x.split(1)])  # each alone, as it is kept
        fake = self.forward(x)
        gan = 0.7 * (self.score(fake) - 1).square().mean()
        distance = BETA * (fake - taught).square().mean()
        self.net.zero_grad()
        self.own.grad = None
        (gan + distance).backward()
        self.adams[0].step()
        for scale, speed in zip(self.scales, self.speed, strict=True):
            speed.mul_(0.5).add_(scale.grad)
            moved = scale.detach() - eta * speed  # Eq. 13
            scale.data = moved.sign() * (moved.abs() - RHO * eta).clamp_min(0)  # Eq. 14
        if not self.revive:
            self.bury()
        self.judge.zero_grad()
        real = 0.5 * (self.score(taught) - 1).square().mean()
        made = 0.5 * self.score(self.from_pool(fake.detach())).square().mean()
        (real + made).backward()
        self.adams[1].step()
        losses = {"G_gan": gan, "G_dist": distance, "D_real": real, "D_fake": made}
        return {name: loss.item() for name, loss in losses.items()}

    def settle(self, x: Tensor) -> None:
        """What dead channels still carry, on average over all pixels, goes into the head's bias; the layer in the middle has
        none, and the norm after it takes a constant out. Then they are buried."""
        with torch.no_grad():
            dead = self.scales[1] == 0
            carried = self.norm.bias.relu().view(1, -1, 1, 1) * dead.view(1, -1, 1, 1)
            over = conv2d(carried.expand(1, 6, *x.shape[2:]), self.net[5].weight, padding=1)
            self.net[5].bias += over.mean((0, 2, 3))
            self.bury()

    def bury(self) -> None:
        """A channel whose scale reached zero is gone, its filter, its shift and what reads it with it."""
        for scale, dead in zip(self.scales, self.dead, strict=True):
            dead |= scale == 0
            scale.data[dead] = 0
        for place, dead, shift in ((0, self.dead[0], self.net[0].bias), (2, self.dead[1], self.norm.bias)):
            self.net[place].weight.data[dead] = 0
            shift.data[dead] = 0
            reader = next(layer for layer in self.net[place + 1 :] if isinstance(layer, nn.Conv2d))
            reader.weight.data[:, dead] = 0

    def folded(self) -> dict[str, Tensor]:
        state = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
        state["0.weight"] *= self.own.detach().view(-1, 1, 1, 1)
        state["0.bias"] *= 1 if self.revive else self.own.detach()
        return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "revive"),
    rest_exhaustive([("code", True), ("paper", True), ("code", False)], lambda case: case[0] == "paper"),
)
def test_the_search_is_algorithm_1(tmp_path, optimizer, revive):
    """Adam's and the scales' rates fall after two steps, an epoch; the pool is full after one, so chance has a part."""
    teacher = straight()
    work = tiny.job(teacher, budget="macs=100%", max_steps=STEPS)
    search = {"rho": RHO, "gamma_lr": ETA, "lr": LR, "revive": revive}
    config = tiny.settings(beta=BETA, optimizer=optimizer, pool=POOL, search=search)
    gan_slimming(Run(tmp_path), work, config)
    hand = ByHand(teacher.eval(), work.teacher()["D"], optimizer, revive)
    batches, lines = Batches(work.data, batch_size=2, seed=0), tiny.logged(tmp_path, "search")
    assert len(lines) == STEPS
    for step, line in enumerate(lines):
        torch.manual_seed(int(np.random.SeedSequence((0, step, 0)).generate_state(1, np.uint64)[0]))
        cosine = 0.5 if step == 2 else 1.0  # (1 + cos(pi epoch / 2)) / 2
        falling = cosine if optimizer == "code" else 1.0  # linear from half: 2 (1 - epoch / 2)
        losses = hand.step(batches.at(step)["input"], rate=LR * falling, eta=ETA * cosine)
        assert line["losses"] == pytest.approx(losses, rel=1e-4, abs=1e-7)
        assert line["lr"] == pytest.approx(LR * falling)
    if revive:
        hand.settle(batches.at(0)["input"])
    assert all(0 < dead.sum() < len(dead) for dead in hand.dead)
    for name, wanted in hand.folded().items():
        torch.testing.assert_close(tiny.saved(tmp_path, "search", "G")[name], wanted, rtol=1e-4, atol=1e-5)
    for name, wanted in hand.judge.state_dict().items():
        torch.testing.assert_close(tiny.saved(tmp_path, "search", "D")[name], wanted, rtol=1e-4, atol=1e-5)
    # what ranks the channels are these scales
    scores = tiny.saved(tmp_path, "search", "scores")["magnitudes"]
    for group, scale, dead in zip(trace(teacher, *tiny.EXAMPLE).groups, hand.scales, hand.dead, strict=False):
        wanted = scale.detach().abs().double().masked_fill(dead, -torch.inf)
        torch.testing.assert_close(scores[group.atoms], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "search", "finetune"),
    [("code", [1e-5, 1e-5, 0.5e-5], [1e-4, 1e-4, 0.5e-4]), ("paper", [2e-4, 2e-4, 2e-4], [2e-4] * 3)],
)
def test_the_rates_are_the_preset_s_unless_they_are_given(tmp_path, optimizer, search, finetune):
    work = tiny.job(max_steps=3)
    gan_slimming(Run(tmp_path), work, GanSlimmingConfig(distance="mse", optimizer=optimizer))
    for stage, rates in (("search", search), ("finetune", finetune)):
        assert [line["lr"] for line in tiny.logged(tmp_path, stage)] == pytest.approx(rates)


@pytest.mark.parametrize(
    ("settings", "task", "rates"),
    [
        ({}, {}, (1e-5, 1e-4)),
        ({}, {"lr": 2e-4}, (1e-5, 1e-4)),  # the default of every task: a run writes it into its recipe
        ({}, {"lr": 3e-3}, (3e-3, 3e-3)),
        ({"search": {"lr": 7e-4}}, {"lr": 3e-3}, (7e-4, 3e-3)),
        ({"optimizer": "paper"}, {"lr": 3e-3}, (3e-3, 3e-3)),
    ],
)
def test_the_task_s_rate_is_read_where_no_nearer_one_is_given(settings, task, rates):
    config = GanSlimmingConfig(**settings)
    given = Pix2PixConfig(**task)
    assert tuple(config.adam(stage, given)["lr"] for stage in ("search", "finetune")) == rates
    betas = (0.9, 0.5) if config.optimizer == "paper" else (0.5, 0.999)
    assert config.adam("search", given)["betas"] == betas
    assert config.adam("search", Pix2PixConfig(beta1=0.3))["betas"] == (0.3, betas[1])


@pytest.mark.exhaustive
def test_the_search_and_finetuning_have_batches_of_their_own(tmp_path):
    """Of four pictures, an epoch each."""
    work = tiny.job(max_steps=None, epochs=1)
    config = tiny.settings(search={"batch_size": 4}, finetune={"batch_size": 1})
    gan_slimming(Run(tmp_path), work, config)
    assert [len(tiny.logged(tmp_path, stage)) for stage in ("search", "finetune")] == [1, 4]


def conditional() -> Pix2Pix:
    return Pix2Pix(Pix2PixConfig(gan_mode="lsgan", lambda_gan=0.7, ndf=4, d_layers=1, d_norm="none"))


@pytest.mark.parametrize(
    ("task", "variant", "real", "shown"),
    rest_exhaustive(
        [
            (tiny.image2image, "gs", None, "teacher"),
            (tiny.image2image, "gs", "photos", "photos"),
            (tiny.image2image, "cp", None, "photos"),  # the ablation's pruning knows no teacher
            (tiny.image2image, "cp", "teacher", "teacher"),
            (conditional, "gs", None, "teacher"),
            (conditional, "gs", "photos", "photos"),
        ],
        lambda case: case[3] != case[2] and case[1] == "gs" or case[2] == "teacher",
    ),
)
def test_what_d_is_shown_as_real(tmp_path, task, variant, real, shown):
    work = tiny.job(task=task(), data=tiny.pairs(), max_steps=1)
    gan_slimming(Run(tmp_path), work, tiny.settings(variant=variant, real=real, search={"rho": 0.0}))
    batch, trained = Batches(work.data, batch_size=2, seed=0).at(0), work.teacher()
    with torch.no_grad():
        image = batch["target"] if shown == "photos" else trained["G"].eval()(batch["input"])
        seen = torch.cat([batch["input"], image], 1) if task is conditional else image
        wanted = 0.5 * (trained["D"](seen).mean((1, 2, 3)) - 1).square().mean()
    assert tiny.logged(tmp_path, "search")[0]["losses"]["D_real"] == pytest.approx(float(wanted), rel=1e-5)


def test_pruning_by_the_gan_loss_says_where_d_distils_for_want_of_photos(tmp_path, caplog):
    gan_slimming(Run(tmp_path), tiny.job(max_steps=0), tiny.settings(variant="cp"))
    told = [m for m in caplog.messages if "no images of the target domain" in m]
    assert len(told) == 2 and "this distils by way of D" in told[0]


def test_a_narrow_student_is_distilled_as_in_gd(tmp_path):
    """L1 of the images, and of what the teacher's D makes of them before its last convolution."""
    work = tiny.job()
    trained, small = work.teacher(), tiny.generator()
    small[0].weight.data *= -1
    task = work.task.as_student_task(trained["G"].eval(), target="teacher", real="teacher")
    nets = task.nets(small, 3, 3)
    x = Batches(work.data, batch_size=2, seed=0).at(0)
    for narrow, feature in (({}, 10.0), ({"lambda_feature": 0}, 0.0)):
        config = tiny.settings(variant="d", narrow=narrow)
        [generation, _] = objective(config, None, "narrow", task, nets, None, trained["D"])
        [losses] = generation.losses(task.forward(nets)(x, 0, 0))
        with torch.no_grad():
            fake, taught = small(x["input"]), trained["G"](x["input"])
            before_last = trained["D"].layers[:-1]
            wanted = 10 * (fake - taught).abs().mean()
            wanted += feature * (before_last(fake) - before_last(taught)).abs().mean()
        assert losses["G_dist"].item() == pytest.approx(float(wanted), rel=1e-5)


def test_d_of_a_narrow_student_learns_its_triplets():
    """[|f(photo) - f(teacher)| - |f(photo) - f(student)| + margin]+, f all of D but its last layer, the mean over images."""
    work = tiny.job(data=tiny.pairs())
    trained, small = work.teacher(), tiny.generator()
    small[0].weight.data *= -1
    task = work.task.as_student_task(trained["G"].eval(), target="teacher", real="teacher")
    nets = task.nets(small, 3, 3)
    batch = Batches(work.data, batch_size=2, seed=0).at(0)
    margin = 0.02
    config = tiny.settings(variant="d", narrow={"lambda_triplet": 3, "triplet_margin": margin})
    [_, judgement] = objective(config, None, "narrow", task, nets, None, trained["D"])
    [losses] = judgement.losses(task.forward(nets)(batch, 0, 0))
    with torch.no_grad():
        images = (batch["target"], trained["G"](batch["input"]), small(batch["input"]))
        photo, theirs, mine = map(nets["D"].layers[:-1], images)
    wanted = sum(
        max(0, float((p - t).abs().mean() - (p - m).abs().mean()) + margin)
        for p, t, m in zip(photo, theirs, mine, strict=True)
    )
    assert wanted > 0 and losses["D_triplet"].item() == pytest.approx(3 * wanted / 2, rel=1e-4)
    assert all(p.grad is None for p in small.parameters())
    losses["D_triplet"].backward()
    assert all(p.grad is None for p in small.parameters()) and nets["D"].layers[0].weight.grad is not None


def test_d_stays_the_teacher_s_in_the_search_if_asked(tmp_path):
    work = tiny.job(max_steps=1)
    gan_slimming(Run(tmp_path), work, tiny.settings(search={"fixed_discriminator": True}))
    trained = work.teacher()["D"].state_dict()
    assert tiny.same(tiny.saved(tmp_path, "search", "D"), trained)
    assert not tiny.same(tiny.saved(tmp_path, "finetune", "D"), trained)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_an_earlier_image_is_not_shown_beside_another_input(tmp_path):
    """A pool of one exchanges images from the second on, and would change what D learns."""
    pooled = {}
    for name, task in (("alone", tiny.image2image), ("beside", conditional)):
        for pool in (0, 1):
            folder = tmp_path / f"{name}{pool}"
            work = tiny.job(task=task(), data=tiny.pairs(), max_steps=3)
            gan_slimming(Run(folder), work, tiny.settings(pool=pool))
            pooled[name, pool] = tiny.saved(folder, "search", "D")
    assert not tiny.same(pooled["alone", 0], pooled["alone", 1])
    assert tiny.same(pooled["beside", 0], pooled["beside", 1])


@pytest.mark.parametrize("prune_trunk", rest_exhaustive([False, True], [True].__contains__))
def test_the_trunk_keeps_its_width_unless_asked(tmp_path, prune_trunk):
    """A pull that kills all leaves the floor; what several layers add up to is not pulled."""
    config = tiny.settings(prune_trunk=prune_trunk, search={"rho": 100.0, "floor": 2})
    result = gan_slimming(Run(tmp_path), tiny.job(), config)
    plan, groups = result.plans["G"], result.channels["G"].groups
    widths = {g.name: int(plan.keep[g.atoms].sum()) for g in groups if g.name in (tiny.TRUNK, *tiny.OTHERS)}
    assert widths == {tiny.TRUNK: 2 if prune_trunk else 6, "3.body.1": 0, "4": 2, "7": 2}
    assert set(result.basis) == {*tiny.OTHERS} | ({tiny.TRUNK} if prune_trunk else set())


@pytest.mark.slow
def test_convolutions_without_a_norm_are_cut_by_scales_of_their_own(tmp_path):
    """Before any step these are spread like the norms' own, over CartoonGAN's convolutions in pairs."""
    torch.manual_seed(0)
    network = nets.build("cartoongan", ngf=4, blocks=1, kernel=3)
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1)
    work = tiny.job(network, budget="macs=60%", max_steps=0)
    result = gan_slimming(Run(tmp_path), work, tiny.settings())
    channels, plan = result.channels["G"], result.plans["G"]
    scores = tiny.saved(tmp_path, "search", "scores")["magnitudes"]
    ranked = norm_scale(network, channels)
    for name in ("down.4", "down.8", "up.0", "up.4"):
        [group] = [group for group in channels.groups if group.name == name]
        torch.testing.assert_close(scores[group.atoms], ranked[group.atoms], rtol=1e-5, atol=0)
        kept = plan.keep[group.atoms]
        assert 0 < kept.sum() < len(group)
        assert ranked[group.atoms][kept].min() > ranked[group.atoms][~kept].max()


def searched_in_few_bits(
    name: str, options: dict, bits: QuantConfig
) -> tuple[nn.Module, nn.Module, Channels, Plan]:
    """A network with gates on it, after steps in few bits that killed some of its channels; the same with the gates folded
    in; its structure and what lives. All shifts begin non-zero."""
    torch.manual_seed(0)
    model = add_affine(nets.build(name, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.2, 0.3)
        for parameter in list(model.parameters())[-2:]:
            parameter.mul_(0.05)  # of the head, so that tanh does not saturate
    channels = trace(model, torch.zeros(1, 3, 16, 24))
    twin, ranked = copy.deepcopy(model), norm_scale(model, channels)
    gates = Gates(model, channels, initial=ranked, revive=False)
    known = {id(scale) for scale in gates.scales}
    adam = torch.optim.Adam([p for p in model.parameters() if id(p) not in known], lr=1e-2)
    sgd = torch.optim.SGD(gates.scales, lr=0.05, momentum=0.5)
    x = torch.rand(2, 3, 16, 24) * 2 - 1
    with Quantizers(model, bits, x):
        for _ in range(3):
            for optimizer in (adam, sgd):
                optimizer.zero_grad()
            (model(x) - x).square().mean().backward()
            for optimizer in (adam, sgd):
                optimizer.step()
            gates.shrink(0.06)
    others = Gates(twin, channels, initial=ranked, revive=False)
    twin.load_state_dict(model.state_dict())
    others.load_state_dict(gates.state_dict())
    others.fold()
    return model.eval(), twin.eval(), channels, gates.live()


def ranges(network: nn.Module, bits: QuantConfig, x: Tensor) -> dict[str, Tensor]:
    """The scales of its weights."""
    with Quantizers(network, bits, x) as quantizers:
        quantizers.freeze()
        return quantizers.state_dict()


@torch.no_grad()
def quantized(network: nn.Module, bits: QuantConfig, x: Tensor, scales: dict[str, Tensor]) -> Tensor:
    with Quantizers(network, bits, x) as quantizers:
        quantizers.load_state_dict(scales)
        return network(x)


@pytest.mark.slow
@pytest.mark.parametrize("levels", rest_exhaustive(["paper", "code"], "paper".__eq__))
@pytest.mark.parametrize(
    ("name", "options"),
    rest_exhaustive(
        [("resnet9", {"ngf": 6, "blocks": 1}), ("cartoongan", {"ngf": 4, "blocks": 1})],
        lambda case: case[0] == "cartoongan",
    ),
)
def test_the_gated_network_in_few_bits_is_the_extracted_one(name, options, levels):
    """Through reflection and zero padding, transposed convolutions, pairs without a norm between, and the head."""
    bits = QuantConfig(levels=levels)
    gated, folded, channels, plan = searched_in_few_bits(name, options, bits)
    assert 0.3 < plan.keep.float().mean() < 0.9
    x = torch.rand(2, 3, 16, 24) * 2 - 1
    small, zero = extract(folded, channels, plan), zeroed(folded, channels, plan)
    scales = ranges(zero, bits, x)
    torch.testing.assert_close(ranges(small, bits, x), scales, rtol=0, atol=0)
    # Powers of two: sums of products on such grids are exact, so that no order of summing tips a rounding over.
    scales = {path: torch.exp2(torch.ceil(torch.log2(scale))) for path, scale in scales.items()}
    wanted = quantized(small, bits, x, scales)
    assert (wanted - small(x)).abs().max() > 1e-3  # few bits do show
    torch.testing.assert_close(quantized(gated, bits, x, scales), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(quantized(zero, bits, x, scales), wanted, rtol=0, atol=1e-5)
