"""Copies of networks as users bring them, and their modes: nothing is asked of their `train()` but that it runs."""

import copy
from collections import OrderedDict
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)


def copied(module: M, memo: dict[int, Any] | None = None) -> M:
    """`copy.deepcopy`, also where a forward or an old-style weight norm has left computed (non-leaf) tensors anywhere in
    the module: the copy has their values, without the gradients' graph.

    Args:
        memo: by `id`, what stands for parts of the module in the copy.
    """
    memo = {} if memo is None else memo
    for part in module.modules():  # most of what a module holds are hooks that it does not have
        empty = [held for held in vars(part).values() if type(held) is OrderedDict and not held]
        memo.update((id(held), OrderedDict()) for held in empty)
    with _Detaching():
        return copy.deepcopy(module, memo)


class _Detaching(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return function(*args, **(kwargs or {}))


def in_evaluation(module: M) -> M:
    """The module, after its `eval()`, which need not return it: many override `train()` to keep batch norms frozen."""
    module.eval()
    return module


def in_training(module: M) -> M:
    """The module, after its `train()`."""
    module.train()
    return module
