"""GAN Slimming as a run: its variants and their stages, budgets, and resuming."""

import copy

import pytest
import tiny_slimming as tiny
import torch
from torch import Tensor, nn

from ganshrink.data import Batches
from ganshrink.methods import METHODS
from ganshrink.methods.base import Job, Result
from ganshrink.methods.gan_slimming import VARIANTS, gan_slimming
from ganshrink.pruning import Plan, extract
from ganshrink.quant import QuantConfig, Quantizers, calibrate
from ganshrink.reports.numbers import times
from ganshrink.training.stages import Run
from telling import rest_exhaustive

pytestmark = pytest.mark.slow

BITS = QuantConfig()
STAGES = {  # of each variant, and whether it distils there
    "gs": {"search": True, "finetune": True},
    "cp": {"search": False, "finetune": False},
    "d": {"narrow": True},
    "d+cp": {"narrow": True, "search": False, "finetune": False},
    "cp+d": {"search": False, "finetune": True},
    "postq": {"search": True, "finetune": True, "quantize": False},
}


def macs(result: Result) -> int:
    return result.channels["G"].cost(result.plans["G"]).macs


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("variant", rest_exhaustive(STAGES, "d+cp".__eq__))
def test_every_variant_has_the_stages_and_the_distance_of_the_paper_s_ablation(tmp_path, variant):
    assert METHODS["gan_slimming"] is gan_slimming and VARIANTS.keys() == STAGES.keys()
    work = tiny.job(budget="macs=45%")
    result = gan_slimming(
        Run(tmp_path), work, tiny.settings(variant=variant, prune_trunk=True, search={"rho": 0.5})
    )
    assert {path.name for path in (tmp_path / "stages").iterdir()} == STAGES[variant].keys()
    for stage, distils in STAGES[variant].items():
        for line in tiny.logged(tmp_path, stage):
            wanted = {"G_gan", "D_real", "D_fake"} | ({"G_dist"} if distils else set())
            assert line["losses"].keys() == wanted
    assert macs(result) <= work.budget.numbers()["macs"]
    # the plan is of the original generator, also where a narrow student was cut again
    plan, channels = result.plans["G"], result.channels["G"]
    assert shapes(extract(result.originals["G"], channels, plan)) == shapes(result.students["G"])
    assert result.quantization == (BITS if variant == "postq" else None)
    # the paper's ratios, of the networks that are there
    [section] = result.sections["G"]
    rows, teacher = section.content[-1].rows, result.originals["G"]
    kernels = [
        sum(p.numel() for p in net.parameters() if p.ndim > 1) for net in (teacher, result.students["G"])
    ]
    ratio = kernels[0] / kernels[1]
    paper = [channels.cost(cut, "paper").macs for cut in (None, plan)]
    wanted = [("float32", ratio)] + ([("8 bits", 4 * ratio)] if variant == "postq" else [])
    assert [list(row) for row in rows] == [
        [name, times(value), times(paper[0] / paper[1])] for name, value in wanted
    ]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("width", "narrow"),
    rest_exhaustive([(0.5, [3, 4, 4, 3]), (0.75, [5, 6, 6, 5])], lambda case: case[0] == 0.75),
)
def test_the_narrow_student_keeps_a_share_of_every_layer(tmp_path, width, narrow):
    gan_slimming(Run(tmp_path), tiny.job(), tiny.settings(variant="d+cp", narrow={"width": width}))
    weights = tiny.saved(tmp_path, "narrow", "G")
    layers = ("0.weight", "3.body.1.weight", "4.weight")
    assert [len(weights[name]) for name in layers] + [weights["7.weight"].shape[1]] == narrow


def first_loss(work: Job, network: nn.Module, judge: dict[str, Tensor], bits: QuantConfig | None) -> float:
    """What D says of the network's first images, in few bits perhaps, as the generator's loss."""
    d = work.teacher()["D"]
    d = copy.deepcopy(d)
    d.load_state_dict(judge)
    x = Batches(work.data, batch_size=2, seed=0).at(0)["input"]
    with torch.no_grad():
        if bits is None:
            made = network(x)
        else:
            with Quantizers(network, bits, work.example):
                made = network(x)
        return float(0.7 * (d(made).mean((1, 2, 3)) - 1).square().mean())


@pytest.mark.parametrize("bits", rest_exhaustive([None, BITS], [BITS].__contains__))
def test_the_search_and_finetuning_are_in_few_bits_if_asked(tmp_path, bits):
    """Seen at the first step of each, where the network is known: the teacher's copy, and what was cut from the search."""
    work = tiny.job()
    result = gan_slimming(Run(tmp_path), work, tiny.settings(quantization=bits))
    assert result.quantization == bits
    searched = copy.deepcopy(result.originals["G"])
    judge = work.teacher()["D"].state_dict()
    lines = [tiny.logged(tmp_path, stage)[0]["losses"] for stage in ("search", "finetune")]
    assert lines[0]["G_gan"] == pytest.approx(first_loss(work, searched, judge, bits), rel=1e-5)
    assert (lines[0]["G_dist"] > 1e-6) == (
        bits is not None
    )  # in float, a copy of the teacher makes its images
    searched.load_state_dict(tiny.saved(tmp_path, "search", "G"))
    cut = extract(searched, result.channels["G"], result.plans["G"])
    judge = tiny.saved(tmp_path, "search", "D")
    assert lines[1]["G_gan"] == pytest.approx(first_loss(work, cut, judge, bits), rel=1e-5)
    assert first_loss(work, cut, judge, bits) != first_loss(work, cut, judge, BITS if bits is None else None)


@pytest.mark.exhaustive
def test_postq_is_gs_in_float_and_then_few_bits(tmp_path):
    work, four = tiny.job(), QuantConfig(weight_bits=4)
    result = gan_slimming(Run(tmp_path / "q"), work, tiny.settings(variant="postq", quantization=four))
    gan_slimming(Run(tmp_path / "gs"), work, tiny.settings())
    for stage in ("search", "finetune"):
        for name in "GD":
            assert tiny.same(
                tiny.saved(tmp_path / "q", stage, name), tiny.saved(tmp_path / "gs", stage, name)
            )
    tuned = copy.deepcopy(result.students["G"])
    tuned.load_state_dict(tiny.saved(tmp_path / "q", "finetune", "G"))
    wanted = first_loss(work, tuned, tiny.saved(tmp_path / "q", "finetune", "D"), four)
    assert tiny.logged(tmp_path / "q", "quantize")[0]["losses"]["G_gan"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.exhaustive
def test_variant_d_trains_in_few_bits_if_asked_and_says_what_it_did(tmp_path):
    made = {
        name: gan_slimming(Run(tmp_path / name), tiny.job(), tiny.settings(variant="d", quantization=bits))
        for name, bits in (("float", None), ("bits", BITS))
    }
    assert made["float"].quantization is None and made["bits"].quantization == BITS
    students = [result.students["G"].state_dict() for result in made.values()]
    assert not tiny.same(*students)


def test_observed_ranges_that_a_student_was_trained_under_are_those_of_its_file(tmp_path):
    observed = BITS.model_copy(update={"activations": "observed"})
    work = tiny.job()
    result = gan_slimming(Run(tmp_path), work, tiny.settings(quantization=observed))
    again = gan_slimming(Run(tmp_path), work, tiny.settings(quantization=observed))
    trained = result.quantization
    assert trained.ranges and again.quantization == trained
    images = [work.data.sample(i, None)["input"][None] for i in range(2)]
    found = calibrate(result.students["G"], trained, images)
    inputs = {
        path: (grids.input.scale, grids.input.zero)
        for path, grids in found.items()
        if grids.input is not None
    }
    assert inputs == {path: tuple(ends) for path, ends in trained.ranges.items()}
    afresh = calibrate(result.students["G"], observed, images)
    assert any(afresh[path].input.scale != scale for path, (scale, _) in inputs.items())


@pytest.mark.exhaustive
@pytest.mark.parametrize("changes", [{"search": {"start": "fresh"}}, {"variant": "d"}], ids=str)
def test_fresh_weights_depend_on_the_seed_of_the_run_alone(tmp_path, changes):
    students = []
    for number in range(2):
        work = tiny.job(max_steps=0)
        torch.manual_seed(number)
        made = gan_slimming(Run(tmp_path / str(number), seed=5), work, tiny.settings(**changes))
        students.append(made.students["G"].state_dict())
    assert tiny.same(*students)


def test_a_fresh_start_is_no_copy_of_the_teacher(tmp_path):
    gan_slimming(Run(tmp_path), tiny.job(), tiny.settings(search={"start": "fresh", "rho": 0.0}))
    assert tiny.logged(tmp_path, "search")[0]["losses"]["G_dist"] > 1e-3


@pytest.mark.parametrize("inherit", [True, False])
def test_d_goes_on_from_stage_to_stage_and_from_the_teacher_s_if_asked(tmp_path, inherit):
    work = tiny.job(max_steps=0)
    gan_slimming(Run(tmp_path), work, tiny.settings(inherit_discriminator=inherit))
    kept = tiny.saved(tmp_path, "search", "D")
    assert tiny.same(kept, work.teacher()["D"].state_dict()) == inherit
    assert tiny.same(kept, tiny.saved(tmp_path, "finetune", "D"))


def test_without_a_gan_loss_there_is_no_d(tmp_path):
    work = tiny.job(task=tiny.image2image(lambda_gan=0))
    gan_slimming(Run(tmp_path), work, tiny.settings())
    assert tiny.logged(tmp_path, "finetune")[0]["losses"].keys() == {"G_dist"}
    assert not (tmp_path / "stages/search/D.safetensors").exists()


@pytest.mark.parametrize(
    ("rho", "words"),
    rest_exhaustive(
        [(0.0, "the smallest scales are cut as well, down to the budget"), (10.0, "far below the budget")],
        lambda case: not case[0],
    ),
)
def test_the_plan_is_what_lives_less_what_is_over_the_budget(tmp_path, caplog, rho, words):
    work = tiny.job(budget="macs=70%")
    with caplog.at_level("INFO"):
        result = gan_slimming(Run(tmp_path), work, tiny.settings(search={"rho": rho}))
    [told] = [message for message in caplog.messages if message.startswith("the search left channels of")]
    assert words in told
    plan, groups = result.plans["G"], result.channels["G"].groups
    scores = tiny.saved(tmp_path, "search", "scores")["magnitudes"]
    assert macs(result) <= work.budget.numbers()["macs"]
    if rho:
        assert plan == Plan(scores > -torch.inf)  # nothing comes back, though it would fit
    else:
        assert not torch.isneginf(scores).any()
        free = torch.cat([group.atoms for group in groups if group.name in tiny.OTHERS])
        cut = free[~plan.keep[free]]
        floors = torch.stack([scores[group.atoms].max() for group in groups if group.name in tiny.OTHERS])
        assert len(cut) and scores[cut].max() <= scores[free[plan.keep[free]]].max()
        assert torch.isin(floors, scores[plan.keep]).all()  # the best of each group stays


@pytest.mark.exhaustive
def test_a_steered_search_ends_at_the_budget_by_itself(tmp_path):
    work = tiny.job(budget="macs=50%", max_steps=None, epochs=1)
    search = {"adaptive_rho": True, "lr": 1e-4, "epochs": 75}
    config = tiny.settings(prune_trunk=True, search=search)
    result = gan_slimming(Run(tmp_path), work, config)
    channels, most = result.channels["G"], work.budget.numbers()["macs"]
    scores = tiny.saved(tmp_path, "search", "scores")["magnitudes"]
    live = Plan(scores > -torch.inf)
    without = live.keep.clone()
    without[torch.where(live.keep, scores, torch.inf).argmin()] = False
    assert channels.cost(live).macs >= most >= channels.cost(Plan(without)).macs
    assert (live.keep & ~result.plans["G"].keep).sum() <= 1
