"""Generators and discriminators: one file per network, plain `nn.Module`s, built by name."""

from ganshrink.nets.checkpoint_file import split_key
from ganshrink.nets.load import NETS, build, maker, net_options
from ganshrink.nets.weights_file import load_weights

__all__ = ["NETS", "build", "load_weights", "maker", "net_options", "split_key"]
