"""Every method makes every generator small, or says why it does not: two steps of each training, tiny widths."""

import copy
from typing import Any

import pytest
import torch
from pairs import NETWORKS, REFUSED
from test_contract import QUICK, config_of

from ganshrink import nets
from ganshrink.data import TensorPairs
from ganshrink.methods import METHODS
from ganshrink.methods.base import Job
from ganshrink.methods.original import Original
from ganshrink.pruning import Budget
from ganshrink.training.stages import Run
from ganshrink.training.tasks import Pix2Pix, Pix2PixConfig, Unconditional, UnconditionalConfig
from ganshrink.training.train import StudentTraining
from telling import rest_exhaustive

PAIRS = [(method, name) for method in METHODS for name in NETWORKS]
LESS: dict[str, dict[str, Any]] = {  # of a method's settings, where two steps do not do
    "dmad": {"search": {"mask_lr": 0.5, "lambda_spa": 0.1, "if_missed": "trim"}},
    "ugc": {**QUICK["ugc"], "extra_blocks": 0},
}


def job_of(method: str, name: str) -> tuple[Job, Any]:
    """A job of two steps, and the method's settings."""
    options, shape = NETWORKS[name]

    def build() -> torch.nn.Module:
        torch.manual_seed(0)
        return nets.build(name, **options)

    example, config = (torch.zeros(1, *shape),), config_of(method, **LESS.get(method, {}))
    original = Original(build, example, config.transforms(), config.exact)
    with torch.no_grad():
        size = original.network(*example).shape[1:]
    draw = torch.Generator().manual_seed(0)
    samples = [
        (torch.rand(shape, generator=draw) * 2 - 1, torch.rand(size, generator=draw) * 2 - 1)
        for _ in range(4)
    ]
    data = TensorPairs(samples)
    task: Any = Pix2Pix(Pix2PixConfig(ndf=4, d_layers=1))
    if len(shape) == 1:
        task = Unconditional(UnconditionalConfig(ndf=4, d_layers=2))
    teacher = task.nets(copy.deepcopy(build()), data.in_channels, 3)
    how = StudentTraining(max_steps=2, batch_size=2, log_every=1, accelerator="cpu")
    budget = Budget.parse("macs=70%").resolve(original.channels)
    return Job(original, lambda: teacher, task, data, budget, how, progress=False), config


def test_every_generator_is_here():
    assert set(NETWORKS) == set(nets.NETS) - {"patchgan"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name"), rest_exhaustive(PAIRS, {("uniform", "sagan"), ("gan_slimming", "srvgg")}.__contains__)
)
def test_a_method_makes_a_generator_small(method, name, tmp_path):
    if (reason := REFUSED.get((method, name))) is not None:
        with pytest.raises(ValueError, match=reason):
            job, config = job_of(method, name)
            METHODS[method](Run(tmp_path), job, config)
        return
    job, config = job_of(method, name)
    result = METHODS[method](Run(tmp_path), job, config)
    [student], [plan], [channels] = result.students.values(), result.plans.values(), result.channels.values()
    assert job.budget.allows(channels, plan)
    sample = job.data.sample(0, None)
    with torch.no_grad():
        assert student(sample["input"][None]).shape[1:] == sample["target"].shape
