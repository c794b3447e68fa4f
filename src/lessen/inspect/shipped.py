"""What the layers of the shipped file give, beside the original's and the simulated model's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lessen.core.errors import LessenError
from lessen.ops.distortion import Sums

if TYPE_CHECKING:
    from lessen.core.task import Task
    from lessen.inspect.side_by_side import Shown
    from lessen.ops.propagation import Ends


@dataclass
class Shipped:
    """Sums by stage against the original (exact) and the model (simulated), filled while `propagate` runs."""

    proto: Any = None
    outputs: dict[str, str] = field(default_factory=dict)  # path of a stage's end -> the value's name in the file
    why: str = "there is no file"
    exact: dict[str, Sums] = field(default_factory=dict)
    simulated: dict[str, Sums] = field(default_factory=dict)

    @staticmethod
    def of(one: Shown, task: Task) -> Shipped:
        """The file's values have no names of layers; exporting the model again tells them."""
        import onnx

        from lessen.artifact.export import export

        if one.file is None:
            return Shipped()
        try:
            exported = export(task.copy(one.model).cpu().eval(), task.inputs(task.split("validation").x[:1]))
        except LessenError as e:
            return Shipped(why=str(e))
        proto = onnx.load(one.file)
        there = {name for node in proto.graph.node for name in node.output}
        if [n.op_type for n in exported.proto.graph.node if n.op_type in COMPUTING] != [
            n.op_type for n in proto.graph.node if n.op_type in COMPUTING
        ] or not set(exported.outputs.values()) <= there:
            return Shipped(why="it was packed by another version, so its values are not known by layer")
        return Shipped(proto, {path.removesuffix(".oq"): name for path, name in exported.outputs.items()}, "")

    def see(self, x: Any, expected: Ends, got: Ends) -> None:
        """One batch: compare every stage's end."""
        from lessen.artifact.fidelity import file_outputs

        if self.proto is None:
            return
        wanted = {path: name for path, name in self.outputs.items() if path in expected}
        for path, value in file_outputs(self.proto, wanted, x.numpy()).items():
            if value.shape == expected[path].shape:
                for sums, model in ((self.exact, expected), (self.simulated, got)):
                    sums[path] = sums.get(path, Sums()).plus(Sums.of(model[path], value))

    def notes(self, name: str) -> list[str]:
        return [] if self.exact else [f"{name}: the shipped file's layers were not compared: {self.why}."]


COMPUTING = {"Conv", "Gemm", "MatMul", "QuantizeLinear", "Add", "Relu"}
