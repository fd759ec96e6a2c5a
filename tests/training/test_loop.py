"""What a step does, and in which order."""

import copy
import shutil
from collections.abc import Iterator

import pytest
import torch
from tiny_training import Step, config, make_batches, make_nets, make_updates, train
from torch import Tensor, nn

from ganshrink.training import Update, adam


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_one_step_is_the_hand_written_one(tmp_path):
    """D on the detached fake, then G through the new D, with the same fake, as pix2pix does."""
    nets = make_nets(plain=True)
    ours, theirs = nets, copy.deepcopy(nets)
    train(ours, make_updates(ours), tmp_path, max_steps=1)

    batch = make_batches().at(0)
    g, d = theirs["G"], theirs["D"]
    optimizers = {
        name: torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.5, 0.999)) for name, net in theirs.items()
    }
    fake = g(batch["input"])
    ((d(batch["target"]) - 1).square().mean() + d(fake.detach()).square().mean()).backward()
    optimizers["D"].step()
    d.requires_grad_(False)
    ((d(fake) - 1).square().mean() + 10 * (fake - batch["target"]).abs().mean()).backward()
    optimizers["G"].step()
    for name in nets:
        for k, v in theirs[name].state_dict().items():
            torch.testing.assert_close(ours[name].state_dict()[k], v)


@pytest.mark.parametrize(("kept", "other"), [("D", "G"), ("G", "D")])
def test_an_update_changes_and_differentiates_only_its_own_net(tmp_path, kept, other):
    nets = make_nets()
    before = {name: weights(net) for name, net in nets.items()}
    update = next(u for u in make_updates(nets) if u.name == kept)
    train(nets, [update], tmp_path, max_steps=3)
    assert not same(before[kept], weights(nets[kept]))
    learned = dict(nets[other].named_parameters())
    assert all(torch.equal(before[other][name], p) for name, p in learned.items())
    assert all(p.grad is None and p.requires_grad for p in learned.values())


def test_updates_run_in_order_at_their_intervals_and_share_the_context(tmp_path):
    nets = make_nets()
    calls: list[tuple[str, int, int]] = []
    fakes: list[Tensor] = []

    def noting(update: Update) -> Update:
        inner = update.losses

        def losses(context: Step) -> Iterator[dict[str, Tensor]]:
            calls.append((update.name, context.step, context.epoch))
            fakes.append(context.fake)
            yield from inner(context)

        update.losses = losses
        return update

    train(nets, [noting(u) for u in make_updates(nets, every=2)], tmp_path, max_steps=6)
    assert calls == [("D", 0, 0), ("G", 0, 0), ("G", 1, 0), ("D", 2, 0), ("G", 2, 0)] + [
        ("G", 3, 0),
        ("D", 4, 0),
        ("G", 4, 0),
        ("G", 5, 1),
    ]
    assert fakes[0] is fakes[1] and fakes[3] is fakes[4] and fakes[1] is not fakes[2]


def test_accumulating_two_batches_equals_one_twice_as_large(tmp_path):
    small, large = make_nets(plain=True), make_nets(plain=True)
    train(small, make_updates(small), tmp_path / "small", batches=make_batches(2), accumulate=2, max_steps=5)
    train(large, make_updates(large), tmp_path / "large", batches=make_batches(4), max_steps=5)
    for name in small:
        for a, b in zip(small[name].parameters(), large[name].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_losses_yielded_one_by_one_add_their_gradients(tmp_path):
    together, apart = make_nets(plain=True), make_nets(plain=True)

    def losses(nets: dict[str, nn.Module], *, split: bool) -> Update:
        def terms(context: Step) -> Iterator[dict[str, Tensor]]:
            x = context.batch["input"]
            a, b = nets["G"](x).square().mean(), nets["G"](-x).abs().mean()
            yield from [{"a": a}, {}, {"b": b}] if split else [{"a": a, "b": b}]

        return Update("G", [adam(nets["G"].parameters())], terms)

    one = train(together, [losses(together, split=False)], tmp_path / "one", max_steps=2)
    two = train(apart, [losses(apart, split=True)], tmp_path / "two", max_steps=2)
    assert one.losses == pytest.approx(two.losses)
    for a, b in zip(together["G"].parameters(), apart["G"].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_all_optimizers_of_an_update_step(tmp_path):
    nets = make_nets()
    gates = nn.Parameter(torch.ones(3))

    def losses(context: Step) -> Iterator[dict[str, Tensor]]:
        yield {"G_gated": (gates.view(3, 1, 1) * context.fake).square().mean()}

    before = weights(nets["G"])
    update = Update("G", [adam(nets["G"].parameters()), torch.optim.SGD([gates], lr=0.1)], losses)
    train(nets, [update], tmp_path, max_steps=1)
    assert not same(before, weights(nets["G"]))
    assert (gates != 1).all()


def test_frozen_networks_are_in_eval_mode_and_trained_ones_in_training_mode(tmp_path):
    nets, teacher = make_nets(), make_nets()["G"]
    nets["G"].eval()
    before = weights(teacher)

    def losses(context: Step) -> Iterator[dict[str, Tensor]]:
        assert nets["G"].training
        with torch.no_grad():
            taught = teacher(context.batch["input"])
        yield {"G_taught": (context.fake - taught).abs().mean()}

    train(
        nets, [Update("G", [adam(nets["G"].parameters())], losses)], tmp_path, max_steps=2, frozen=[teacher]
    )
    assert not teacher.training
    assert same(before, weights(teacher))  # running statistics included


def test_the_last_epoch_of_the_decay_still_learns(tmp_path):
    nets = make_nets()
    updates = make_updates(nets)
    train(nets, updates, tmp_path, epochs=1, decay_epochs=3)  # 10 images, 2 a step: 5 steps an epoch
    assert [u.optimizers[0].param_groups[0]["lr"] for u in updates] == pytest.approx([1e-2 / 4] * 2)


@pytest.mark.parametrize("changes", [{"precision": "bf16-mixed"}, {"channels_last": True}])
def test_number_and_memory_formats_train_to_about_the_same_weights(tmp_path, changes):
    plain, other = make_nets(plain=True), make_nets(plain=True)
    train(plain, make_updates(plain), tmp_path / "plain", max_steps=3)
    result = train(other, make_updates(other), tmp_path / "other", max_steps=3, **changes)
    assert result.steps == 3
    for a, b in zip(plain["G"].parameters(), other["G"].parameters(), strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0.03)


def test_batches_for_other_processes_are_refused(tmp_path):
    nets = make_nets()
    batches = make_batches()
    batches.world = 2
    with pytest.raises(ValueError, match="for 2 processes, but there are 1"):
        train(nets, make_updates(nets), tmp_path, batches=batches)


def test_float16_is_refused_without_a_gpu(tmp_path):
    nets = make_nets()
    with pytest.raises(ValueError, match="16-mixed needs a GPU: use bf16-mixed"):
        train(nets, make_updates(nets), tmp_path, precision="16-mixed")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path):
    nets = make_nets()
    with pytest.raises(ValueError, match="torch sees no GPU"):
        train(nets, make_updates(nets), tmp_path, accelerator="cuda")


class Whole(nn.Module):
    """A bare `nn.Sequential` is torch's own code, which the compiler leaves alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).tanh()


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_generator_trains_alike_and_is_plain_again_afterwards(tmp_path):
    graphs = torch._dynamo.utils.counters["stats"]
    plain = {"G": Whole(), "D": make_nets()["D"]}
    compiled = copy.deepcopy(plain)
    train(plain, make_updates(plain), tmp_path / "plain", max_steps=2)
    before = graphs["unique_graphs"]
    train(compiled, make_updates(compiled), tmp_path / "compiled", max_steps=2, compile=True)
    assert graphs["unique_graphs"] == before + 1
    for name in plain:
        for (a, x), (b, y) in zip(
            plain[name].state_dict().items(), compiled[name].state_dict().items(), strict=True
        ):
            assert a == b
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-4)
    torch.export.export(compiled["G"].eval(), (torch.zeros(1, 3, 8, 8),))


def test_fit_refuses_settings_it_does_not_know():
    with pytest.raises(ValueError, match="epoch"):
        config(epoch=3)
