"""Which modules are in training mode, and which in eval mode, while a network learns or labels.

A labeller says what it holds for true. So its dropout and stochastic depth are off, as in an evaluation, and two looks
at an image give the same label. What normalises with the statistics of a batch may do so also while it labels, as in
the published code. So the two cannot go by the mode of the whole network.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def keeps_statistics(module: nn.Module) -> bool:
    """Returns whether a module normalises and moves running statistics when it is in training mode.

    That is every batch norm and instance norm of PyTorch, also of a class of one's own that stands on it, and every
    other module with a buffer whose name begins with `running_`.
    """
    own = (name for name, _ in module.named_buffers(recurse=False))
    return isinstance(module, _NormBase) or any(name.startswith("running_") for name in own)


def set_to_label(network: nn.Module, batch_statistics: bool) -> None:
    """Puts a network that only ever labels into eval mode, and with `batch_statistics` its norms into training mode.

    Norms that its own `train` leaves in eval mode, because they are frozen, stay there.
    """
    network.train()
    norms = [each for each in network.modules() if each.training and keeps_statistics(each)]
    network.eval()
    for norm in norms if batch_statistics else ():
        norm.training = True


def freeze_backbone_norms(network: nn.Module) -> int:
    """Puts the norms of a network's `backbone` into eval mode, so that they normalise by the statistics that they hold.

    Their scales and shifts still learn. Crops of few images give poor statistics, so this is usual for small batches.

    Returns:
        how many norms these are; 0 if the network has no backbone, or none in it that keeps statistics.
    """
    backbone = getattr(network, "backbone", None)
    norms = [each for each in backbone.modules() if keeps_statistics(each)] if isinstance(backbone, nn.Module) else []
    for norm in norms:
        norm.eval()
    return len(norms)


def to_be_off(networks: Iterable[nn.Module], batch_statistics: bool) -> list[nn.Module]:
    """Returns the modules of networks in training that are in eval mode while these label.

    They are all modules, or with `batch_statistics` all but the norms, because it is not only modules called dropout
    that drop: attention has it within, too.
    """
    every = [module for network in networks for module in network.modules()]
    return [module for module in every if not (batch_statistics and keeps_statistics(module))]


@contextmanager
def in_eval_mode(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Has each of these modules in eval mode, and not those below it; then in the mode that it was in."""
    with modes_kept(modules):
        for module in modules:
            module.training = False
        yield


@contextmanager
def modes_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Puts each of these modules back into the mode that it was in, whatever happens meanwhile."""
    modes = [(module, module.training) for module in modules]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
