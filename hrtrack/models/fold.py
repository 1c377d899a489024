"""Batch norms put into the convolutions before them, for running a finished network."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval


def fold_norms(network: nn.Module) -> None:
    """Replaces, in place, each convolution and the batch norm that follows it by one convolution.

    For networks whose layers run in the order they were registered in, as `HRNet`'s do; in
    evaluation mode the outputs stay the same but for rounding.
    """
    for module in list(network.modules()):
        last: tuple[str, nn.Conv2d] | None = None
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d) and last is not None:
                setattr(module, last[0], fuse_conv_bn_eval(last[1].eval(), child.eval()))
                setattr(module, name, nn.Identity())
            last = (name, child) if isinstance(child, nn.Conv2d) else None
