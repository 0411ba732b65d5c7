"""Weights for tests of supernets."""

import torch


def scramble(module, seed=0):
    """Weights by their fan-in, and norms of which nothing is neutral: else the output is nearly blind to the input."""
    drawn = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=drawn)
        elif name.endswith(("running_var", "weight")):
            tensor.uniform_(0.5, 1.5, generator=drawn)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.3, generator=drawn)
    return module
