"""What a network does before and after its searched layers, each as a module of its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.passes.split_module import split_module

from sgnas_zoo.models.deploy import OperationTracer


def ends(model: nn.Module, layers: Collection[nn.Module], batch: Tensor) -> tuple[tuple[nn.Module, Tensor], ...]:
    """Cut a network before its first searched layer and after its last.

    Args:
        model: A network in its deploy form, whose layers follow one another.
        layers: Its searched layers.
        batch: An input of it.

    Returns:
        The module before the layers and the one after them, each with the input that it gets. All run one after the
        other compute what the network does.
    """
    graph = _LayerTracer(layers).trace(model)
    searched = [node for node in graph.nodes if node.op == "call_module" and model.get_submodule(node.target) in layers]
    order = {node: place for place, node in enumerate(graph.nodes)}

    def part(node: Node) -> int:
        return (order[node] >= order[searched[0]]) + (order[node] > order[searched[-1]])

    parts: Any = split_module(GraphModule(model, graph), model, part)
    before, between, after = parts.children()
    with torch.no_grad():
        return (before, batch), (after, between(before(batch)))


class _LayerTracer(OperationTracer):
    """Looks into no searched layer."""

    def __init__(self, layers: Collection[nn.Module]) -> None:
        super().__init__()
        self.layers = layers

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is a layer or one operation."""
        return m in self.layers or super().is_leaf_module(m, module_qualified_name)
