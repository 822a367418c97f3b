"""A part of a graph as a function: what lies between some tensors that are fed and some that are fetched."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import importer


class Subgraph:
    """What lies between some inputs and some outputs of a graph, ready to be rebuilt in a function.

    What does not depend on the inputs (variables, tables) stays outside and is captured; constants go along.
    """

    def __init__(self, graph: tf.Graph, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._inputs = list(inputs)
        self._outputs = list(outputs)
        self._captured: dict[str, Any] = {}
        inside = self._collect(_dependents(inputs))
        whole = graph.as_graph_def()
        self._graph_def = tf.compat.v1.GraphDef(library=whole.library, versions=whole.versions)
        for node in whole.node:
            if node.name in inside:
                copy = self._graph_def.node.add()
                copy.CopyFrom(node)
                kept = [name for name in node.input if not name.startswith("^") or name[1:] in inside]
                del copy.input[:]
                copy.input.extend(kept)

    def _collect(self, dependent: set[str]) -> set[str]:
        """Walks back from the outputs; tensors that don't depend on the inputs are noted as captured."""
        fed = {tensor.name for tensor in self._inputs}
        inside: set[str] = set()
        pending = list(self._outputs)
        while pending:
            tensor = pending.pop()
            if tensor.name in fed:
                continue
            if _is_constant(tensor.op):  # stays inside, where the graph's optimiser can use it
                inside.update(_constant_chain(tensor.op))
            elif tensor.op.name not in dependent:
                self._captured[tensor.name] = tensor
            elif tensor.op.name not in inside:
                inside.add(tensor.op.name)
                pending.extend(tensor.op.inputs)
                inside.update(_control_ancestors(tensor.op, dependent, pending))
        return inside

    def rebuild(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs, computed from `inputs` within the function graph that is being built."""
        graph = tf.compat.v1.get_default_graph()
        known = {tensor.name: new for tensor, new in zip(self._inputs, inputs, strict=True)}
        known |= {name: graph.capture(tensor) for name, tensor in self._captured.items()}
        wanted = [tensor.name for tensor in self._outputs]
        made = [name for name in wanted if name not in known]
        used = {name.removesuffix(":0") for node in self._graph_def.node for name in node.input}
        input_map = {name: new for name, new in known.items() if name.removesuffix(":0") in used}
        rebuilt = importer.import_graph_def(self._graph_def, input_map=input_map, return_elements=made, name="")
        known |= dict(zip(made, rebuilt or [], strict=True))
        return [tf.identity(known[name]) for name in wanted]


def _constant_chain(operation: Any) -> list[str]:
    """A constant, or identities of one, from the last to the constant."""
    chain = [operation.name]
    while operation.type == "Identity":
        operation = operation.inputs[0].op
        chain.append(operation.name)
    return chain


def _is_constant(operation: Any) -> bool:
    while operation.type == "Identity":
        operation = operation.inputs[0].op
    return bool(operation.type == "Const")


def _control_ancestors(operation: Any, dependent: set[str], pending: list[Any]) -> set[str]:
    """The operations that must run before this one; what they compute from is appended to `pending`."""
    found: set[str] = set()
    waiting = list(operation.control_inputs)
    while waiting:
        before = waiting.pop()
        if before.name in dependent and before.name not in found:
            found.add(before.name)
            pending.extend(before.inputs)
            waiting.extend(before.control_inputs)
    return found


def _dependents(inputs: Sequence[Any]) -> set[str]:
    """Names of the operations that data or control flow from the inputs reaches."""
    found: set[str] = set()
    pending = [operation for tensor in inputs for operation in tensor.consumers()]
    while pending:
        operation = pending.pop()
        if operation.name not in found:
            found.add(operation.name)
            pending.extend(consumer for output in operation.outputs for consumer in output.consumers())
            pending.extend(operation._control_outputs)
    return found
