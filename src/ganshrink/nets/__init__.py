"""Generators and discriminators: one file per network, plain `nn.Module`s, built by name."""

from ganshrink.nets.load import NETS, build, net_options

__all__ = ["NETS", "build", "net_options"]
