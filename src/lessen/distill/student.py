"""A smaller, untrained net takes the model's place, to be taught by it (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import nn


class Student(Technique):
    """The model it replaces is the teacher of the steps behind it; nothing but training may come before it.

    So `Student(model='vgg16') >> Finetune() >> Student(model='vgg11') >> LogitDistill()` teaches by a VGG-16. With
    `inherit`, quantization may come before: the student has weights and activations of the same bits and groups, those
    of the first and the last layer from the first and the last, all others as most of the others have them. Zeros are
    not inherited, and cut channels and low-rank factors are refused.
    """

    paper: ClassVar[str] = "Hinton et al. 2015, arXiv:1503.02531"
    replaces: ClassVar[bool] = True

    model: Annotated[str, Doc("the student, such as 'resnet8(width=0.5)'; empty is the given model, narrower")] = ""
    width: Annotated[float, Range("factor on the given model's width, when `model` is empty", 0.01, 1.0)] = 0.5
    inherit: Annotated[bool, Doc("after quantization: quantize the student's layers as the model's are")] = False

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        from lessen.models import kinds, pristine

        if self.inherit:
            kinds.refuse_unknown("Student", model, run)
            pristine.refuse_untrained("Student", run)
        else:
            pristine.refuse_fresh("Student", model, run, ", or after quantization write Student(inherit=True)")
        text = self.model or pristine.narrower("Student.model", model, self.width)
        student = task.build(text).to(next(model.parameters()).device)
        small, large = task.cost(student).parameters, task.cost(model).parameters
        pristine.refuse_no_smaller("Student", text, small, large)
        run.details.update(student=text, parameters=small, teacher_parameters=large)
        run.notes.append("the student is untrained and scores at chance until a step such as LogitDistill trains it")
        if self.inherit:
            found = kinds.kinds(model)
            if found:
                kinds.give(student, found, "Student", task, run)
            if found.masked:
                run.notes.append("which weights are zero is not inherited: prune again behind the student's training")
        return student if model.training else student.eval()  # not train(), since its builder may have frozen parts
