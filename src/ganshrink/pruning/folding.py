"""Copies of a user's model: parametrizations folded into plain weights, the model itself never touched."""

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from ganshrink.pruning.fresh import trainable
from ganshrink.system.copies import copied

# What stands in front of a network: cuts would have to go through it.
WRAPPERS: dict[type, tuple[str, str]] = {
    nn.DataParallel: ("wrapped", "take the network that it wraps (.module)"),
    nn.parallel.DistributedDataParallel: ("wrapped", "take the network that it wraps (.module)"),
    torch.jit.ScriptModule: ("TorchScript", "take the Python module that it was made from"),
}
COMPILED = ("compiled", "take the network that was compiled (._orig_mod), and compile the student")


def folded_copy(model: nn.Module) -> nn.Module:
    """A deep copy whose weight and spectral norms (new and old style) are folded into plain parameters, as in evaluation.

    Training flags are the model's own.
    """
    double = copy_of(model)
    training = {path: module.training for path, module in double.named_modules()}
    double.eval()
    for module in list(double.modules()):
        if parametrize.is_parametrized(module):
            _own_class(module)
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                _fold(module, name)
        _fold_hooks(module)
    for path, module in double.named_modules():
        module.training = training.get(path, model.training)
    return double


def copy_of(model: nn.Module) -> nn.Module:
    """A deep copy, also where old-style norms or caches have left computed (non-leaf) tensors.

    Every parameter of the copy can be trained, also where the model's own are frozen, as a teacher's are.

    Raises:
        ValueError: for a network that no copy can stand for: wrapped, scripted, not yet initialised, or not to be copied.
    """
    for path, module in model.named_modules():
        _refuse(module, f"the submodule {path}" if path else "the model")
    try:
        double = copied(model)
    except Exception as error:  # whatever user code raises while it is copied
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"the model cannot be copied: {text}; remove that attribute first") from error
    return trainable(double)


def _refuse(module: nn.Module, name: str) -> None:
    wrappers = [words for kind, words in WRAPPERS.items() if isinstance(module, kind)]
    if hasattr(module, "_orig_mod"):  # to import torch.compile's own class takes seconds
        wrappers.append(COMPILED)
    for problem, way_out in wrappers:
        raise ValueError(f"{name} is {problem} ({type(module).__name__}); {way_out}")
    for parameter, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        if is_lazy(tensor):
            raise ValueError(
                f"{parameter} of {name} is not initialised yet; run the model once on an example"
            )


def _fold(module: nn.Module, name: str) -> None:
    trained = any(p.requires_grad for p in module.parametrizations[name].parameters())  # type: ignore[index,union-attr]
    parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    folded = getattr(module, name)
    if not isinstance(folded, nn.Parameter):  # of several originals, torch leaves what it computed
        delattr(module, name)
        folded = nn.Parameter(folded.detach().clone())
        module.register_parameter(name, folded)
    folded.requires_grad_(trained)


def _own_class(module: nn.Module) -> None:
    """A parametrized module shares its made-up class with its copies; folding strips that class of its properties."""
    shared = type(module)
    content = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, content)


def _fold_hooks(module: nn.Module) -> None:
    hook: Any
    for key, hook in list(module._forward_pre_hooks.items()):
        if type(hook).__name__ == "WeightNorm" and hasattr(hook, "compute_weight"):
            hook.remove(module)
            del module._forward_pre_hooks[key]
        elif type(hook).__name__ == "SpectralNorm" and hasattr(hook, "compute_weight"):
            hook.remove(module)
            del module._forward_pre_hooks[key]
            for extra in list(module._state_dict_hooks):
                if type(module._state_dict_hooks[extra]).__name__ == "SpectralNormStateDictHook":
                    del module._state_dict_hooks[extra]
            for extra in list(module._load_state_dict_pre_hooks):
                held = getattr(module._load_state_dict_pre_hooks[extra], "hook", None)
                if type(held).__name__ == "SpectralNormLoadStateDictPreHook":
                    del module._load_state_dict_pre_hooks[extra]
