"""PURE. A training program in Python -> what in it does not stand a kill, or a second start.

Read as a syntax tree, never imported. Only what people write again and again is known; a program in which nothing is found is not
proved right by that: `--rehearse` is the proof.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ckptrun.doctor.findings import Finding, Severity

_WARNING = Severity.WARNING
_SAVES = frozenset(
    {"pickle.dump", "json.dump", "torch.save", "joblib.dump", "dill.dump", "np.save", "numpy.save", "cloudpickle.dump"}
)
_WHOLE = ("os.replace", "os.rename", "os.renames", "shutil.move", "atomic_path")
ABOUT = {
    "save-in-place": "A checkpoint is written over the only copy: a kill in that moment leaves half a file.",
    "save-on-interrupt": "Saved only when Ctrl-C comes: a kill without warning loses everything.",
    "newest-by-number": "Each file's name is taken for a number to find the newest: one other file in the folder ends the program.",
    "keras-period": "`ModelCheckpoint(period=...)`: Keras 3 refuses it.",
    "keras-weights": "Weights in a `.ckpt` file: Keras 3 refuses the name.",
}


def judge(text: str) -> tuple[Finding, ...]:
    """Return the findings in the order of their lines."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        return (
            Finding(
                "syntax", line, Severity.ERROR, f"this is no Python: {error.__class__.__name__}", advice="python -m py_compile"
            ),
        )
    found = [*_in_place(tree), *_on_interrupt(tree), *_newest(tree), *_keras(tree)]
    return tuple(sorted(found, key=lambda one: (one.line, one.rule)))


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _dotted(node.func), node


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _in_place(tree: ast.Module) -> Iterator[Finding]:
    """A save to a name that does not change, in a program that never renames."""
    names = [name for name, _ in _calls(tree)]
    if any(name.endswith(_WHOLE) or name in ("replace", "rename") for name in names):
        return
    if any(_renames(node) for _, node in _calls(tree)):
        return
    files = _opened(tree)
    for name, node in _calls(tree):
        if name not in _SAVES or len(node.args) < 2:
            continue
        target = node.args[0] if name.endswith(".save") and name != "torch.save" else node.args[1]
        path = files.get(target.id) if isinstance(target, ast.Name) and target.id in files else None
        if _is_fixed(path if path is not None else target, by_variable=path is not None):
            what = f"{name} writes over the only copy: a kill in that moment leaves half a file, and nothing to go on from"
            yield Finding(
                "save-in-place", node.lineno, _WARNING, what, advice="with ckptrun.atomic_path(name) as path: save to path"
            )


def _renames(node: ast.Call) -> bool:
    """Return whether this is a path's `replace` or `rename`; a text's `replace` has two arguments."""
    return isinstance(node.func, ast.Attribute) and node.func.attr in ("replace", "rename") and len(node.args) == 1


def _opened(tree: ast.AST) -> dict[str, ast.expr]:
    """Return the names of files that are opened to be written, with their paths."""
    found: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        for item in node.items if isinstance(node, ast.With) else ():
            call = item.context_expr
            if not isinstance(call, ast.Call) or not isinstance(item.optional_vars, ast.Name) or _dotted(call.func) != "open":
                continue
            mode = call.args[1] if len(call.args) > 1 else next((word.value for word in call.keywords if word.arg == "mode"), None)
            if call.args and isinstance(mode, ast.Constant) and isinstance(mode.value, str) and "w" in mode.value:
                found[item.optional_vars.id] = call.args[0]
    return found


def _is_fixed(path: ast.expr, *, by_variable: bool) -> bool:
    """Return whether a path is the same in every save, as far as it can be seen."""
    if isinstance(path, ast.Constant):
        return isinstance(path.value, str)
    if isinstance(path, ast.Call) and _dotted(path.func).endswith(("join", "Path")):
        return all(isinstance(word, ast.Constant | ast.Name) for word in path.args) and isinstance(path.args[-1:][0], ast.Constant)
    return by_variable and isinstance(path, ast.Name)


def _on_interrupt(tree: ast.Module) -> Iterator[Finding]:
    """Every save, or every call of a function that saves, stands below `except KeyboardInterrupt`."""
    saving = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(name in _SAVES for name, _ in _calls(node))
    }
    inside = {id(node) for handler in _interrupts(tree) for node in ast.walk(handler)}
    within = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in saving
        for inner in ast.walk(node)
    }
    saves = [node for name, node in _calls(tree) if (name in _SAVES or name in saving) and id(node) not in within]
    if saves and all(id(node) in inside for node in saves):
        what = "saved only when Ctrl-C comes: a kill without warning, by a node that fails for instance, loses everything"
        yield Finding("save-on-interrupt", saves[0].lineno, _WARNING, what, advice="save every so often, too")


def _interrupts(tree: ast.AST) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(_dotted(one) == "KeyboardInterrupt" for one in caught):
                yield node


def _newest(tree: ast.Module) -> Iterator[Finding]:
    """`max(int(f.split('.')[0]) for f in os.listdir(folder))`."""
    for name, node in _calls(tree):
        if name not in ("max", "sorted") or not node.args or not isinstance(node.args[0], ast.GeneratorExp | ast.ListComp):
            continue
        made = node.args[0]
        lists = any(inner.endswith(("listdir", "glob", "iterdir", "scandir")) for inner, _ in _calls(made.generators[0].iter))
        counts = any(inner == "int" for inner, _ in _calls(made.elt))
        if lists and counts and not made.generators[0].ifs:
            what = "every file's name is taken for a number: one other file in the folder, a temporary one say, ends the program"
            advice = "CKPTRUN_CHECKPOINT, or ckptrun.current().checkpoint, names the newest whole one"
            yield Finding("newest-by-number", node.lineno, _WARNING, what, advice=advice)


def _keras(tree: ast.Module) -> Iterator[Finding]:
    for name, node in _calls(tree):
        if not name.endswith("ModelCheckpoint"):
            continue
        for word in node.keywords:
            if word.arg == "period":
                what = "period= is gone in Keras 3, which refuses it"
                yield Finding("keras-period", word.value.lineno, _WARNING, what, advice='save_freq="epoch"')
        path = next((word.value for word in node.keywords if word.arg == "filepath"), node.args[0] if node.args else None)
        text = _text(tree, path)
        if text.endswith(".ckpt"):
            what = f"{text!r}: Keras 3 saves weights to names that end in .weights.h5 only, and refuses this one"
            yield Finding("keras-weights", node.lineno, _WARNING, what, advice=text.removesuffix(".ckpt") + ".weights.h5")


def _text(tree: ast.Module, node: ast.expr | None) -> str:
    """Return the text of a constant, or of a name that is given one."""
    if isinstance(node, ast.Name):
        given = [one.value for one in ast.walk(tree) if isinstance(one, ast.Assign) and _dotted(one.targets[0]) == node.id]
        node = given[-1] if given else None
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
