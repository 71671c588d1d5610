"""What a run is to do: the task, and the inputs that it is about."""

from __future__ import annotations

from .form import Form, Unfit, as_json


def whole_task(task: str, inputs: object, form: Form | None) -> str:
    """The task with what it is about, which must be of the `form` if there is one.

    Raises TypeError or ValueError for what is neither.
    """
    _check_task(task)
    if inputs is None:
        if form is not None and not _has_inputs(task, form):
            raise TypeError("this pattern takes inputs: pass inputs=...")
        return task
    if form is not None:
        try:
            inputs = form.check(inputs)
        except Unfit as unfit:
            raise ValueError(f"inputs do not fit: {unfit}") from unfit
    return f"{task}{_INPUTS}{as_json(inputs)}{_END_OF_INPUTS}"


_INPUTS, _END_OF_INPUTS = "\n\n<inputs>\n", "\n</inputs>"


def _has_inputs(task: str, form: Form) -> bool:
    """Whether a task has its inputs in it, as that of a run does that is gone on with."""
    _, found, said = task.rpartition(_INPUTS)
    try:
        form.read(said.removesuffix(_END_OF_INPUTS))
    except Unfit:
        return False
    return bool(found) and said.endswith(_END_OF_INPUTS)


def _check_task(task: object) -> None:
    if not isinstance(task, str):
        raise TypeError(f"task must be a string saying what to do; got {task!r}")
    if not task.strip():
        raise ValueError("task is empty; say what to do")
