"""The front end of PyTorch modules: a traced model of quantised layers, read as a Program, node by node."""

from typing import Any

import torch
from torch import fx, nn

from lava_conv.errors import ConversionError, problem
from lava_conv.frontends.effective import effective
from lava_conv.frontends.frontend import Opened
from lava_conv.frontends.nodes import module_of, name_of, place, remedy_of
from lava_conv.frontends.operations import entry_of, entry_of_call, is_leaf
from lava_conv.frontends.operations.entry import Arriving, Entry, Unsupported
from lava_conv.frontends.operations.image import Image
from lava_conv.frontends.operations.refused import GENERAL
from lava_conv.frontends.program import Operation, Program, Shape, Step
from lava_conv.frontends.tracing import trace
from lava_conv.qat.evaluation import in_float64


def accepts(model: nn.Module) -> bool:
    """Any module is read; what is not quantised in it is refused by name."""
    return True


def open_model(model: nn.Module, shape: Shape, input_scale: float) -> Opened:
    """A model made of the layers of `lava_conv.qat`.

    Args:
        model: not changed; takes pixels.
        shape: of one image.
        input_scale: not needed, the model's `Pixels` say it.

    Raises:
        ConversionError: the forward cannot be traced.
    """
    traced = trace(in_float64(effective(model, torch.float64)), is_leaf)
    return Opened(model, read(traced, shape), 1.0, exact=True)


def read(traced: fx.GraphModule, shape: Shape) -> Program:
    """The Program of a traced model.

    Args:
        traced: of quantised layers, in float64 and evaluation mode.
        shape: of one image.
    """
    nodes: Any = traced.graph.nodes
    end = next(node for node in nodes if node.op == "output")
    reader, steps = Reader(shape), []
    for node in nodes:
        unused = node.op == "placeholder" and bool(steps) and not node.users  # a second input with a default
        if node is not end and not unused:
            steps.append(reader.read(traced, node))
    outputs = (end.args[0].name,) if isinstance(end.args[0], fx.Node) else ()
    refused = any(step.operation.refusal() for step in steps)
    shapes = {} if refused else {name: found for name, found in reader.shapes.items() if found is not None}
    return Program(tuple(steps), shapes, outputs)


class Reader:
    """Reads nodes as steps of a Program, and knows the shapes of their results.

    Args:
        shape: of one image.
    """

    def __init__(self, shape: Shape) -> None:
        self.shapes: dict[str, Shape | None] = {}  # of a sample, by name; None behind what is refused
        self._image = shape

    def read(self, traced: fx.GraphModule, node: fx.Node) -> Step:
        """One node as a step; the nodes before it were read.

        Args:
            traced: the model as it is now, in float64 and evaluation mode.
            node: of its graph, or one of the same name in the graph of another copy.
        """
        if node.op == "call_module":
            module, tensors = module_of(traced, node), node.all_input_nodes[:1]
            entry: Entry | None = entry_of(module)
        else:
            module, (entry, tensors) = None, entry_of_call(node) or (None, node.all_input_nodes)
        arriving = [self.shapes.get(n.name) for n in tensors] if tensors else [self._image]
        operation, shape = self._operation(node, entry, module, arriving)
        self.shapes[node.name] = shape
        return Step(node.name, operation, tuple(n.name for n in tensors), place(node), node.meta.get("call"))

    def _operation(
        self, node: fx.Node, entry: Entry | None, module: nn.Module | None, arriving: Arriving
    ) -> tuple[Operation, Shape | None]:
        """What a node means, and the shape of its result if that is known."""
        try:
            if entry is not None:
                operation = entry.read(module, arriving)
            elif node.op == "placeholder":
                second = Unsupported("is a second input", "only one image can be fed")
                operation = second if self.shapes else Image()
            else:
                operation = Unsupported(f"calls {name_of(node)}", remedy_of(node, GENERAL))
            known = [shape for shape in arriving if shape is not None]
            if operation.refusal() is not None or len(known) < len(arriving):
                return operation, None
            return operation, operation.output_shape(*known)
        except ConversionError as error:
            _, what, remedy = problem("", str(error))
            return Unsupported(what, remedy), None
