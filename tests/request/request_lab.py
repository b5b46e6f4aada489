"""A copy of the request package for experiments: switch points between its statements, and bugs on demand.

`load_lab` compiles the package's sources anew under another name. Before every statement a call of
``preempt()`` is planted, so that a `SeededScheduler` may switch there as an operating system could, also
while the mutex is held: that is a `FiberMutex` here. A mutant is the same with one piece of source replaced.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from itertools import count
from pathlib import Path

from greenlet import getcurrent

import lazyflow_core.request

SOURCES = Path(lazyflow_core.request.__file__).parent
#: Where threads compete. The rest is the explorer's own machinery, or pure.
INSTRUMENTED = {
    "_bridge", "_cancel", "_condition", "_core", "_event", "_lock", "_pool", "_priority", "_queue",
    "_request", "_semaphore", "_wait",
}  # fmt: skip
_numbers = count()


class PlantSwitchPoints(ast.NodeTransformer):
    """Put ``_preempt_()`` before every statement of every function, and between the calls inside of one.

    Inside a statement, one stands after each call whose value the statement goes on with, before each
    further operand of ``and`` and ``or``, and before each element of a comprehension: an operating system
    switches anywhere, so ``next(iter(shared))`` is two steps.
    """

    def __init__(self):
        self.inside_function = False

    def visit_Call(self, node):
        self.generic_visit(node)
        if not self.inside_function:
            return node
        # (value, _preempt_())[0]
        call = ast.parse("(0, _preempt_())[0]", mode="eval").body
        call.value.elts[0] = node
        return ast.copy_location(call, node)

    def visit_Expr(self, node):
        was_call = isinstance(node.value, ast.Call)
        self.generic_visit(node)
        if self.inside_function and was_call:
            node.value = node.value.value.elts[0]  # nothing happens between the call and the next statement
        return node

    visit_Assign = visit_Return = visit_Expr

    def visit_BoolOp(self, node):
        was_call = isinstance(node.values[-1], ast.Call)
        self.generic_visit(node)
        if self.inside_function:
            if was_call:
                node.values[-1] = node.values[-1].value.elts[0]
            node.values[1:] = map(self.after_preempt, node.values[1:])
        return node

    def visit_GeneratorExp(self, node):
        self.generic_visit(node)
        if self.inside_function:
            node.elt = self.after_preempt(node.elt)
        return node

    visit_ListComp = visit_SetComp = visit_GeneratorExp

    @staticmethod
    def after_preempt(value):
        both = ast.parse("_preempt_() or 0", mode="eval").body
        both.values[1] = value
        return ast.copy_location(both, value)

    def visit_FunctionDef(self, node):
        if node.name == "__del__":
            return node  # the collector calls it, at moments that no seed decides
        outer, self.inside_function = self.inside_function, True
        self.generic_visit(node)
        self.inside_function = outer
        node.body = self.planted(node.body, keep_docstring=True)
        return node

    def generic_block(self, node):
        self.generic_visit(node)
        if self.inside_function:
            for field in ("body", "orelse", "finalbody"):
                block = getattr(node, field, None)
                if block:
                    setattr(node, field, self.planted(block))
        return node

    visit_With = visit_If = visit_For = visit_While = visit_Try = visit_ExceptHandler = generic_block

    @staticmethod
    def planted(block, keep_docstring=False):
        result = []
        for statement in block:
            is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            does_nothing = isinstance(statement, ast.Pass | ast.Nonlocal | ast.Global | ast.Try)
            if not is_docstring and not does_nothing:
                call = ast.parse("_preempt_()").body[0]
                result.append(ast.copy_location(call, statement))
            result.append(statement)
        return result


class FiberMutex:
    """The mutex among virtual threads: a fiber that finds it taken stands aside until it is free."""

    def __init__(self):
        self.owner = None
        self.depth = 0
        self.waiting = []

    @property
    def is_busy(self):
        return self.owner is not None

    def _is_owned(self):
        return False  # so the explorer may switch while it is held

    def __enter__(self):
        me = getcurrent()
        while self.owner not in (None, me):
            if hasattr(me, "carrier"):
                self.waiting.append(me)
                me.carrier.hub.switch()
            else:  # the driver itself, e.g. while it closes the scheduler
                self.owner.carrier._take_step(may_pass_time=False)
        self.owner = me
        self.depth += 1

    def __exit__(self, *error):
        self.depth -= 1
        if self.depth == 0:
            self.owner = None
            waiting, self.waiting = self.waiting, []
            for fiber in waiting:
                fiber.carrier.run_again(fiber, fiber)


class LabLoader(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    def __init__(self, package, mutations, switch_points):
        self.package = package
        self.mutations = mutations
        self.switch_points = switch_points

    def find_spec(self, name, path=None, target=None):
        if name != self.package and not name.startswith(self.package + "."):
            return None
        is_package = name == self.package
        return importlib.machinery.ModuleSpec(name, self, is_package=is_package)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        short = module.__name__.rpartition(".")[2]
        is_package = module.__name__ == self.package
        if short == "_mutex":
            module.mutex = FiberMutex()
            return
        path = SOURCES / ("__init__.py" if is_package else f"{short}.py")
        source = path.read_text()
        for file, old, new in self.mutations:
            if file == short:
                assert source.count(old) == 1, (
                    f"{file}: {old!r} occurs {source.count(old)} times; mend the mutant"
                )
                source = source.replace(old, new)
        tree = ast.parse(source)
        if self.switch_points and short in INSTRUMENTED:
            tree = ast.fix_missing_locations(PlantSwitchPoints().visit(tree))
            module._preempt_ = self.preempt
        exec(compile(tree, str(path), "exec"), module.__dict__)

    def preempt(self):
        package = sys.modules.get(self.package)
        if package is not None and getattr(package, "on_switch_point", None) is not None:
            package.on_switch_point()
        seeded = sys.modules.get(self.package + "._seeded")
        if seeded is not None:
            seeded.preempt()


def load_lab(mutations=(), switch_points=True):
    """Return a fresh copy of the package, with everything of the original's public API."""
    package = f"request_lab_{next(_numbers)}"
    loader = LabLoader(package, mutations, switch_points)
    sys.meta_path.insert(0, loader)
    try:
        spec = loader.find_spec(package)
        module = importlib.util.module_from_spec(spec)
        sys.modules[package] = module
        loader.exec_module(module)
        importlib.import_module(package + "._bridge")
        importlib.import_module(package + "._value")
        module.waitgraph = sys.modules[package + "._waitgraph"]
    finally:
        sys.meta_path.remove(loader)
    return module


def unload(module):
    for name in [
        name for name in sys.modules if name == module.__name__ or name.startswith(module.__name__ + ".")
    ]:
        del sys.modules[name]
