"""A smaller, untrained net takes the model's place, to be taught by it (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique
from lessen.core.text import Call

if TYPE_CHECKING:
    from torch import nn


class Student(Technique):
    """The model it replaces is the teacher of the steps behind it; nothing but training may come before it.

    So `Student('vgg16') >> Finetune() >> Student('vgg11') >> LogitDistill()` teaches VGG-11 by a VGG-16.
    """

    paper: ClassVar[str] = "Hinton et al. 2015, arXiv:1503.02531"
    replaces: ClassVar[bool] = True

    model: Annotated[str, Doc("the student, such as 'resnet8(width=0.5)'; empty is the given model, narrower")] = ""
    width: Annotated[float, Range("factor on the given model's width, when `model` is empty", 0.01, 1.0)] = 0.5

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        from lessen.models.pristine import compressed

        before = run.done[-1] if run.done else "a compression"
        if compressed(model):
            raise Refused(
                f"Student cannot follow {before} because a fresh student would throw away what it won; "
                "put Student first"
            )
        if before.startswith("Student("):
            raise Refused(
                f"Student cannot follow {before} because that one is untrained and has nothing to teach; "
                "put a step that trains it between them"
            )
        text = self.model or narrower(model, self.width)
        student = task.build(text).to(next(model.parameters()).device)
        small, large = task.cost(student).parameters, task.cost(model).parameters
        if small >= large:
            raise Refused(
                f"Student '{text}' with {small:,} parameters is not smaller than the model with {large:,}; "
                "name a smaller one"
            )
        run.details.update(student=text, parameters=small, teacher_parameters=large)
        run.notes.append("the student is untrained and scores at chance until a step such as LogitDistill trains it")
        return student.train(model.training)


def narrower(model: nn.Module, factor: float) -> str:
    """The text of the model's own builder with its width times `factor`. Errors: BadField when it has none."""
    builder: Call | None = getattr(model, "builder", None)
    if builder is None:
        raise BadField("Student.model is empty and the model does not know its builder; name one, such as 'resnet8'")
    args = {k: v for k, v in builder.args.items() if k not in ("shape", "classes")}
    return str(Call(builder.name, {**args, "width": round(args.get("width", 1.0) * factor, 6)}))
