"""Running statistics counted anew: the plain mean over batches of what each batch says."""

import copy

import pytest
import torch
from torch import nn

from ganshrink import nets
from ganshrink.training.batch_norm import recalibrate


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, momentum=0.3),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5, affine=False, momentum=None),
    )


def batches(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 9, 11, generator=generator) * (1 + i) + i for i, size in enumerate(sizes)]


@torch.no_grad()
def naive(net, given):
    """Means and unbiased variances of each norm's inputs, by batch: each batch normalised by itself, no dropout."""
    found = []
    h = given
    for layer in net:
        if isinstance(layer, nn.BatchNorm2d):
            found.append([(x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).var(1)) for x in h])
            h = [
                nn.functional.batch_norm(
                    x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps
                )
                for x in h
            ]
        elif not isinstance(layer, nn.Dropout):
            h = [layer(x) for x in h]
    return found


def assert_statistics(net, given):
    norms = [m for m in net if isinstance(m, nn.BatchNorm2d)]
    for norm, of_batches in zip(norms, naive(net, given), strict=True):
        means, variances = (torch.stack(values).mean(0) for values in zip(*of_batches, strict=True))
        torch.testing.assert_close(norm.running_mean, means)
        torch.testing.assert_close(norm.running_var, variances)
        assert int(norm.num_batches_tracked) == len(given)


@pytest.mark.parametrize("sizes", [(4,), (2, 3), (1, 1, 4, 2)])
def test_statistics_are_the_mean_over_batches(sizes):
    """A batch counts once, however many images it has."""
    net, given = network(), batches(*sizes)
    assert recalibrate(net, iter(given)) is net
    assert_statistics(net, given)


def test_what_was_there_before_does_not_count():
    net, given = network(), batches(2, 3)
    for norm in (net[1], net[5]):
        norm.running_mean.normal_(5)
        norm.running_var.uniform_(7, 9)
        norm.num_batches_tracked.fill_(1000)
    for _ in range(2):
        recalibrate(net, given)
        assert_statistics(net, given)


@pytest.mark.parametrize("training", [True, False])
def test_flags_momenta_weights_and_gradients_stay(training):
    net = network().train(training)
    net[4].train(not training)
    before = copy.deepcopy(net)
    recalibrate(net, batches(2))
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    assert [net[1].momentum, net[5].momentum] == [0.3, None]
    for (name, ours), theirs in zip(net.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.grad is None and ours.requires_grad


def test_flags_and_momenta_stay_when_a_batch_does_not_fit():
    net = network()
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 2"):
        recalibrate(net, [torch.zeros(1, 2, 9, 9)])
    assert all(m.training for m in net.modules())
    assert [net[1].momentum, net[5].momentum] == [0.3, None]


def never():
    raise AssertionError("a batch was read")
    yield


@pytest.mark.parametrize(
    "make",
    [
        lambda: nets.build("resnet6", ngf=4, blocks=1),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
    ],
    ids=("instance norms", "batch norm without running statistics"),
)
def test_without_running_statistics_no_batch_is_read(make):
    net = make()
    before = copy.deepcopy(net.state_dict())
    assert recalibrate(net, never()) is net
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(m.training for m in net.modules())


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x, y):
        return self.norm(x + y)


def test_inputs_may_be_several():
    x, y = batches(2, 2)
    net = recalibrate(TwoInputs(), [(x, y)])
    torch.testing.assert_close(net.norm.running_mean, (x + y).mean((0, 2, 3)))


def test_afterwards_a_network_computes_in_evaluation_what_it_does_on_that_batch():
    """Up to the variance's correction: what recalibration is for."""
    torch.manual_seed(0)
    net = nets.build("resnet6", ngf=8, blocks=1, norm="batch").eval()
    x = torch.randn(4, 3, 32, 32) * 3 + 1
    with torch.no_grad():
        off = (net(x) - copy.deepcopy(net).train()(x)).abs().max()
        recalibrate(net, [x])
        close = (net(x) - copy.deepcopy(net).train()(x)).abs().max()
    assert float(close) < 1e-2 < float(off)
