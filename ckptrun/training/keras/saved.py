"""What is saved: one `.npz` file of arrays, read by every version of NumPy, and nothing in it is executed."""

from __future__ import annotations

import json
import zipfile
from typing import Any

from ckptrun.training.keras.dice import random_states, set_random_states
from ckptrun.training.keras.model import differs, reader_of, scope_of, shape_of, variables_of
from ckptrun.training.keras.workers import Together


class State:
    """All that is saved, read from the model. Of several processes each makes one; one of them writes."""

    def __init__(self, model: Any, facts: dict[str, Any], together: Together | None) -> None:
        self._variables, built = variables_of(model)
        self._facts = facts
        self._arrays: dict[str, Any] = {}
        states = json.dumps(random_states())
        facts["random"] = [states] if together is None else [one.decode() for one in together.exchange(states.encode())]
        facts["built"], facts["names"] = built, [shape_of(one) for one in self._variables]
        self._each = {number: _each(one, together) for number, one in enumerate(self._variables) if differs(one)}
        facts["callbacks"] = [self._without_arrays(one) for one in facts["callbacks"]]
        self._value = reader_of(model)

    def write(self, path: str) -> None:
        """Write one array after the other: all of them at once would need the memory a second time where they are on a GPU."""
        import numpy

        facts = numpy.frombuffer(json.dumps(self._facts, default=_number).encode(), dtype=numpy.uint8)
        with open(path, "wb") as file, zipfile.ZipFile(file, "w") as whole:
            for name, array in [("facts", facts), *self._arrays.items()]:
                _put(whole, name, array)
            for number, one in enumerate(self._variables):
                _put(whole, f"variable-{number}", self._each[number] if number in self._each else self._value(one))

    def _without_arrays(self, state: Any) -> Any:
        """Return a callback's state with names for the arrays in it."""
        if isinstance(state, dict):
            return {name: self._without_arrays(one) for name, one in state.items()}
        if isinstance(state, (list, tuple)):
            return [self._without_arrays(one) for one in state]
        if getattr(state, "ndim", 0):
            name = f"callback-{len(self._arrays)}"
            self._arrays[name] = state
            return {"array": name}
        return state


def load(path: str, model: Any, together: Together | None) -> dict[str, Any]:
    """Restore a model, its optimizers and the random states; return the rest."""
    import numpy

    try:
        with numpy.load(path, allow_pickle=False) as arrays:
            facts: dict[str, Any] = json.loads(bytes(arrays["facts"]))
    except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged, or no checkpoint of this adapter ({error}): move it out of the folder") from error
    with numpy.load(path, allow_pickle=False) as arrays:
        _restore(path, model, facts, arrays, together)
        facts["callbacks"] = _with_arrays(facts["callbacks"], arrays)
    states = facts["random"]
    own = 0 if together is None else together.number
    facts["random"] = json.loads(states[own]) if own < len(states) else None
    set_random_states(facts["random"])
    return facts


def _restore(path: str, model: Any, facts: dict[str, Any], arrays: Any, together: Together | None) -> None:
    with scope_of(model):
        variables, _ = variables_of(model, facts["built"])
        shapes = [shape_of(one) for one in variables]
        if facts["names"] != shapes:
            what = f"{len(shapes)} variables in place of {len(facts['names'])}"
            if len(shapes) == len(facts["names"]):
                what = next(f"a shape {shapes[n]} in place of {one}" for n, one in enumerate(facts["names"]) if one != shapes[n])
            raise ValueError(
                f"{path} is of another model or optimizer: this one has {what}."
                " If it is the same, build it first: give it an Input, or call it once. If not, give it a folder of its own"
            )
        for number, one in enumerate(variables):
            array = arrays[f"variable-{number}"]
            if differs(one) and list(array.shape) != list(one.shape):
                _assign_each(one, array, together)
            else:
                one.assign(array)


def _with_arrays(state: Any, arrays: Any) -> Any:
    if isinstance(state, dict):
        return (
            arrays[state["array"]] if set(state) == {"array"} else {name: _with_arrays(one, arrays) for name, one in state.items()}
        )
    return [_with_arrays(one, arrays) for one in state] if isinstance(state, list) else state


def _put(whole: zipfile.ZipFile, name: str, array: Any) -> None:
    import numpy

    array = numpy.asarray(array)
    if array.dtype.kind == "V":  # bfloat16 and float8, which NumPy cannot write, are parts of float32
        array = array.astype("float32")
    with whole.open(f"{name}.npy", "w", force_zip64=True) as part:
        numpy.lib.format.write_array(part, array, allow_pickle=False)  # type: ignore[no-untyped-call]


def _number(value: Any) -> Any:
    """Return a NumPy number, or a tensor of one, as JSON has it."""
    return value.item() if hasattr(value, "item") else float(value)


def _each(variable: Any, together: Together | None) -> Any:
    """Return the values of all devices, of all processes, one below the other."""
    import numpy

    own = numpy.stack([one.numpy() for one in variable.values])
    if together is None:
        return own
    return numpy.concatenate([numpy.frombuffer(one, own.dtype).reshape(own.shape) for one in together.exchange(own.tobytes())])


def _assign_each(variable: Any, values: Any, together: Together | None) -> None:
    """Give each device its value; where they are more or fewer than they were, all the first one's."""
    own = variable.values
    same = len(values) == len(own) * (1 if together is None else together.count)
    before = 0 if together is None else together.number * len(own)
    for number, one in enumerate(own):
        one.assign(values[before + number if same else 0])
