"""Versions: what a change replaces stays readable for whoever began before it.

A change makes the next version of its graph. Every field is written in place; what was there before is noted
in the version that was current, under the field, before the field is written. Whoever sees an older version
reads the field first and then looks for a note of it, in that version and in those after it; the first one
found is what the field was then. What slots and operators publish is one tuple that begins with the number of
the version it was written in, so the usual reader sees by one comparison that there is nothing to look up.

A version lives while it is current or something runs in it. What it noted is then handed to the next older
one that lives, or let go. ``DESIGN.md`` says what may interleave with what.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, NoReturn

from lazyflow_core.errors import GraphError
from lazyflow_core.foreign import contextmanager, logged
from lazyflow_core.request import RequestEvent
from lazyflow_core.request.extension import Party, current_party, current_stack

if TYPE_CHECKING:
    from lazyflow_core.graph.graph import Graph
    from lazyflow_core.graph.stale import StaleBoxes

__all__ = [
    "DEAD",
    "MAKING",
    "Duty",
    "Snapshot",
    "Version",
    "Versions",
    "enter",
    "execute_in",
    "here",
    "is_executing",
    "leave",
    "look",
    "place_in",
    "run_all",
    "seen",
]

_logger = logging.getLogger("lazyflow_core")

#: Life of a version: written by a change that is not complete, then readable, then neither current nor
#: needed.
MAKING: Final = 0
ALIVE: Final = 1
DEAD: Final = 2

#: Notes of a dead version that are handed on in one section of the lock.
_PIECE: Final = 128

#: Something to do when a version and all older ones since a number are gone: (number, function, argument).
Duty = tuple[int, Callable[[Any], object], Any]

#: A graph, and what is done with it here: on which stack its operators execute, None where they do not
#: (inside a change or a snapshot); who that is to the requests; the version that is seen; and the place
#: around this one, if that is another graph's.
Place = tuple["Graph | None", object, "Party | None", Any, Any]

_NOWHERE: Place = (None, None, None, None, None)

#: Where this code is. Requests take it with them, so whatever an execution starts sees the version of that
#: execution; that it has another stack it sees by comparing.
here: ContextVar[Any] = ContextVar("lazyflow_place", default=_NOWHERE)


class Version:
    """One state of a graph. Guarded by the lock of `Versions`, where nothing else is said."""

    __slots__ = (
        "__weakref__",
        "count",
        "duties",
        "newer",
        "notes",
        "number",
        "older",
        "snapshots",
        "state",
        "watchers",
    )

    def __init__(self, number: int, state: int) -> None:
        #: Grows with every change, also with one that fails, and is given once.
        self.number = number
        self.state = state
        #: Executions and snapshots that see it, and how many of them are snapshots.
        self.count = 0
        self.snapshots = 0
        #: What fields were in it that are other now: (object, name of the field) → value. Added to by the
        #: change that makes the next version, without the lock and before it writes the field; never taken
        #: away before the version is dead, also not when that change fails: somebody may have read what it
        #: wrote already.
        self.notes: dict[tuple[Any, str], Any] = {}
        #: The next older one that is alive or not emptied yet, and the next newer one.
        self.older: Version | None = None
        self.newer: Version | None = None
        #: What to do when nobody sees it any more.
        self.duties: list[Duty] = []
        #: Whom to tell when it is gone; None for nobody.
        self.watchers: weakref.WeakSet[StaleBoxes] | None = None

    def note(self, target: Any, field: str) -> None:
        """Note a field in the version before this one, which is being made; nobody can know newer objects."""
        older = self.older
        if older is not None and target._born < self.number:
            older.notes.setdefault((target, field), getattr(target, field))

    def write(self, target: Any, field: str, value: Any) -> None:
        """Note a field and write it; for what need not be taken back when the change fails."""
        self.note(target, field)
        object.__setattr__(target, field, value)


class Versions:
    """The versions of one graph that can be read: the current one, and older ones while they are needed."""

    __slots__ = ("_last_number", "_left", "_oldest", "abandoned", "current", "lock", "settled")

    def __init__(self) -> None:
        #: Held for a few statements; never while something is waited for or somebody else's code runs.
        self.lock = threading.Lock()
        #: What everybody sees who begins now. Written under the lock, read without it.
        self.current = Version(0, ALIVE)
        self._oldest = self.current
        #: Number of the oldest version that is alive, or a smaller one: what was written in it or before is
        #: seen by everybody. Whoever uses it reads it *before* what it is compared with: a number that is not
        #: larger then belongs to a change that is complete, or that failed and was put back.
        self.settled = 0
        #: Touched by whoever makes a change; there is one at a time.
        self._last_number = 0
        #: Versions of snapshots that were garbage collected. Appended by finalizers, taken by changes.
        self.abandoned: deque[Version] = deque()
        #: What those wait for who want executions in older versions to be over. Guarded by the lock.
        self._left: RequestEvent | None = None

    # ------------------------------------------------------------------------------------------- beginning

    def enter(self, inherited: Version | None, *, snapshot: bool = False) -> Version:
        """Begin to see a version: that of whoever started this, while it is alive; else the current one."""
        with self.lock:
            version = self.current
            if inherited is not None and inherited.count:
                version = inherited
            version.count += 1
            if snapshot:
                version.snapshots += 1
            return version

    def leave(self, version: Version, *, snapshot: bool = False) -> None:
        """End what `enter` began; what nobody needs any more goes."""
        with self.lock:
            version.count -= 1
            if snapshot:
                version.snapshots -= 1
            if version is self.current or (version.count and self._left is None):
                return
        self._tidy(version)

    def enter_one_where(self, fits: Callable[[Version], bool]) -> Version | None:
        """Begin to see the newest living version that fits; return None if there is none."""
        for version in reversed(self.alive()):
            with self.lock:
                if version is not self.current and not version.count:
                    continue
                version.count += 1
            if fits(version):
                return version
            self.leave(version)
        return None

    # --------------------------------------------------------------------------------------------- changing

    def make(self) -> Version:
        """Return the next version, which nobody sees yet. Called by the one change that is under way."""
        while self.abandoned:
            self.leave(self.abandoned.popleft(), snapshot=True)
        if self._oldest is not self.current:
            for older in self.alive()[:-1]:
                if not older.count:  # who left it last was stopped on the way, by Ctrl-C
                    self._tidy(older)
        self._last_number += 1
        version = Version(self._last_number, MAKING)
        version.older = self.current
        return version

    def publish(self, version: Version, duties: Iterable[Duty] = ()) -> list[Callable[[], object]]:
        """Let everybody who begins now see a version; return what is to be done outside of the change.

        ``duties`` are for when nobody sees the version before it any more.
        """
        with self.lock:
            before = self.current
            if duties:
                before.duties += duties
            before.newer = version
            version.state = ALIVE
            self.current = version
            if before.count:
                return []
            if before.older is not None:
                alone = False
            else:
                # The usual case, written out: nobody sees an older version, so there is nobody to hand on to.
                alone = True
                before.state = DEAD
                before.newer = version.older = None
                self._oldest = version
                self.settled = version.number
        if not alone:
            return self._bury(before)
        before.notes, noted = {}, before.notes
        del noted  # outside the lock: the last reference of something may go with it
        watchers = before.watchers
        todo: list[Callable[[], object]] = []
        if watchers:
            before.watchers = None
            todo += [_Told(watcher.forget, (version.number,)) for watcher in list(watchers)]
        if before.duties:
            todo += [_Told(function, argument) for _, function, argument in before.duties]
            before.duties = []
        return todo

    @staticmethod
    def fail(version: Version) -> None:
        """Forget a version that was being made: what it wrote was put back, what it noted stays."""
        version.state = DEAD
        version.older = None

    # ---------------------------------------------------------------------------------------------- reading

    def look_up(self, version: Version | None, target: Any, field: str) -> Any:
        """Return what a field is in a version; None, or one that is gone, for the current one."""
        with self.lock:
            if version is None or version.state is DEAD:
                version = self.current
            # The field first: what is in it was noted before it was written.
            value = getattr(target, field)
            if version.state is MAKING:
                return value
            key = (target, field)
            looked: Version | None = version
            while looked is not None:
                if key in looked.notes:
                    return looked.notes[key]
                looked = looked.newer
            if target._born > version.number:
                return target._unborn(field, value)
            return value

    def alive(self) -> list[Version]:
        """Return the versions that are seen or can be, the oldest first."""
        found = []
        with self.lock:
            version: Version | None = self._oldest
            while version is not None:
                if version.state is ALIVE:
                    found.append(version)
                version = version.newer
        return found

    def wait_for_executions(self) -> None:
        """Wait until nothing executes in an older version than the current one."""
        while True:
            with self.lock:
                version: Version | None = self._oldest
                while version is not self.current and version is not None:
                    if version.count > version.snapshots:
                        break
                    version = version.newer
                else:
                    self._left = None
                    return
                event = self._left
                if event is None:
                    event = self._left = RequestEvent("executions of older versions are over")
            event.wait()

    def describe(self) -> str:
        """Return what older versions hold, in a sentence; empty if there are none."""
        older = self.alive()[:-1]
        if not older:
            return ""
        snapshots = sum(v.snapshots for v in older)
        by = _counted(
            (sum(v.count for v in older) - snapshots, "execution"),
            (snapshots, "snapshot"),
        )
        kept = _counted(
            (sum(len(v.notes) for v in older), "old field"),
            (sum(len(v.duties) for v in older), "old plan or closed operator"),
        )
        what = "1 older version is" if len(older) == 1 else f"{len(older)} older versions are"
        return f"{what} still seen, by {by or 'nobody any more'}; kept for that: {kept or 'nothing'}"

    # ---------------------------------------------------------------------------------------------- the end

    def _tidy(self, version: Version) -> None:
        with self.lock:
            event = None
            if version.count == version.snapshots:
                event, self._left = self._left, None
            dead = not version.count and version is not self.current and version.state is ALIVE
        if dead:
            run_all(self._bury(version))
        if event is not None:
            event.set()

    def _bury(self, version: Version) -> list[Callable[[], object]]:
        """Hand on what a version noted, in pieces; return what is to be done then, outside of any lock."""
        dropped: list[Any] = []
        with self.lock:
            if version.state is DEAD or version.count or version is self.current:
                return []
            version.state = DEAD
        notes = version.notes
        try:
            while True:
                with self.lock:
                    # The neighbour is asked anew each time: it may have been buried itself meanwhile.
                    older = version.older
                    for _ in range(min(_PIECE, len(notes))):
                        key, value = next(reversed(notes.items()))
                        # Of two notes the older one is what the older version has to see.
                        if older is not None and key[0]._born <= older.number:
                            older.notes.setdefault(key, value)
                        dropped.append((key, value))
                        notes.popitem()  # handed on first: Ctrl-C may come in between
                    if notes:
                        continue
                    watchers = list(version.watchers or ())
                    # Made before it is taken out: until then another one can go on, from then on nobody.
                    todo: list[Callable[[], object]] = [_Told(self._let_forget, watchers)] if watchers else []
                    for number, function, argument in version.duties:
                        if older is None or number > older.number:
                            todo.append(_Told(function, argument))
                    newer = version.newer
                    assert newer is not None
                    if older is not None:
                        if watchers:
                            if older.watchers is None:
                                older.watchers = weakref.WeakSet()
                            older.watchers.update(watchers)
                        older.duties += [duty for duty in version.duties if duty[0] <= older.number]
                        older.newer = newer
                    else:
                        self._oldest = newer
                        self.settled = newer.number
                    newer.older = older
                    version.duties, version.watchers = [], None
                    version.older = version.newer = None
                break
        except BaseException:  # Ctrl-C
            if version.newer is not None:
                version.state = ALIVE  # whoever makes the next version goes on with it, see `make`
            else:
                run_all(todo)
            raise
        del dropped  # outside the lock: the last reference of something may go with it
        return todo

    def _let_forget(self, watchers: list[StaleBoxes]) -> None:
        """Tell those who keep stale boxes which versions are left."""
        left = tuple(version.number for version in self.alive())
        for watcher in watchers:
            watcher.forget(left)


def _counted(*counts: tuple[int, str]) -> str:
    """Return e.g. ``"2 executions, 1 snapshot"``; leaves out what there is none of."""
    return ", ".join(
        f"{number} {what}" if number == 1 else f"{number} {what.replace(' or', 's or')}s"
        for number, what in counts
        if number
    )


class _Told:
    """A call to be made later."""

    __slots__ = ("_argument", "_function")

    def __init__(self, function: Callable[[Any], object], argument: Any) -> None:
        self._function = function
        self._argument = argument

    def __call__(self) -> object:
        return self._function(self._argument)

    def __repr__(self) -> str:
        return f"{getattr(self._function, '__qualname__', self._function)}"


def run_all(todo: Iterable[Callable[[], object]]) -> None:
    """Do what the end of a version made due; what raises is reported and hinders nobody."""
    left = iter(todo)
    try:
        for each in left:
            with logged(_logger, "%s failed.", each):
                each()
    except BaseException:  # Ctrl-C: nobody else does what is left
        run_all(left)
        raise


# ------------------------------------------------------------------------------------------------- where we
# are


def place_in(graph: Graph) -> Any:
    """Return what is done with a graph here, also around operators of others; None if nothing is."""
    place = here.get()
    if place[0] is None:
        return None
    while place is not None and place[0] is not graph:
        place = place[4]
    return place


def is_executing(graph: Graph) -> bool:
    """Whether this is called, however indirectly, by operators of a graph that execute."""
    place = place_in(graph)
    return place is not None and place[1] is not None


def around(graph: Graph) -> Any:
    """Return the place to come back to from one in ``graph``, if that is another graph's."""
    place = here.get()
    return place[4] if place[0] is graph else None if place[0] is None else place


def enter(graph: Graph) -> Token[Any]:
    """Begin to execute operators of a graph on this stack; what it returns is for `leave`.

    Raises
    ------
    GraphError
        Inside of a change: there is no version yet in which it could be computed.
    """
    place = here.get()
    versions = graph._versions
    if place[0] is None:
        # The usual case, written out: `Versions.enter`.
        with versions.lock:
            version = versions.current
            version.count += 1
        outer = None
    else:
        if place[0] is graph:
            inherited, outer = place[3], place[4]
        else:
            outer = place
            place = place_in(graph)
            inherited = None if place is None else place[3]
        if inherited is not None and inherited.state is MAKING:
            raise GraphError(
                "setup_outputs asked for pixels or a computed value, or propagate_dirty did, or a "
                "transaction did before its end; during a change only meta and given parameters are known."
            )
        version = versions.enter(inherited)
    return here.set((graph, current_stack(), current_party(), version, outer))


def execute_in(graph: Graph, version: Version) -> Token[Any]:
    """As `enter`, in a version that was entered already."""
    return here.set((graph, current_stack(), current_party(), version, around(graph)))


def leave(graph: Graph, token: Token[Any]) -> None:
    """End what `enter` began."""
    version = here.get()[3]
    here.reset(token)
    versions = graph._versions
    with versions.lock:  # `Versions.leave`, written out
        version.count -= 1
        if version is versions.current or (version.count and versions._left is None):
            return
    versions._tidy(version)


#: Stands for the stack where operators execute further up but a version was looked at in between: what is
#: asked begins anew, and nothing may be changed.
_FURTHER_UP: Final = object()


def look(graph: Graph, version: Version) -> Token[Any]:
    """See a version of a graph from here on, without executing; ``here.reset`` ends it."""
    place = here.get()
    if place[0] is None:  # the usual case
        return here.set((graph, None, None, version, None))
    place = place_in(graph)
    stack = None if place is None or place[1] is None else _FURTHER_UP
    return here.set((graph, stack, None, version, around(graph)))


def seen(graph: Graph, target: Any, field: str) -> Any:
    """Return what a field is in the version that is seen here; the current one, where nothing was said."""
    place = here.get()
    if place[0] is graph:
        version = place[3]
        inside = True
    else:
        place = place_in(graph)
        inside = place is not None
        version = place[3] if inside else graph._versions.current
    value = getattr(target, field)
    # In this order: a version that dies loses its notes after it was declared dead.
    if version.notes or version.newer is not None or version.state is DEAD:
        return graph._versions.look_up(version if inside else None, target, field)
    return value


class Snapshot:
    """One version of a graph, seen by everything inside a ``with`` block; made by `Graph.snapshot`."""

    __slots__ = ("__weakref__", "_graph", "_tokens", "_version")

    def __init__(self, graph: Graph) -> None:
        self._version: Version | None = None
        place = place_in(graph)
        inherited = None if place is None else place[3]
        if inherited is not None and inherited.state is MAKING:
            raise GraphError("a snapshot is of a complete version; this one is being changed right here.")
        self._graph = graph
        self._tokens: list[Token[Any]] = []
        self._version = graph._versions.enter(inherited, snapshot=True)

    @property
    def number(self) -> int:
        """Number of the version."""
        return self._held().number

    @contextmanager
    def seen(self) -> Iterator[None]:
        """See it in a block, wherever that runs: in a thread that was not started inside, for instance."""
        token = look(self._graph, self._held())
        try:
            yield
        finally:
            here.reset(token)

    def close(self) -> None:
        """Let it go; twice is fine."""
        version, self._version = self._version, None
        if version is not None:
            self._graph._versions.leave(version, snapshot=True)

    def _held(self) -> Version:
        if self._version is None:
            raise GraphError("this snapshot is over; make another one by graph.snapshot().")
        return self._version

    def __enter__(self) -> Snapshot:
        self._tokens.append(look(self._graph, self._held()))
        return self

    def __exit__(self, *exception: object) -> None:
        here.reset(self._tokens.pop())
        if not self._tokens:
            self.close()

    def __del__(self) -> None:
        # Of one that was dropped without being closed, as a generator that nobody went on with. Runs
        # anywhere, also inside a section of the lock, so it takes none.
        version = getattr(self, "_version", None)
        if version is not None:
            self._graph._versions.abandoned.append(version)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # A copy would be a second owner of one count, and let the version go under the first.
        raise TypeError(f"{self!r} is not copied; graph.snapshot() inside of it makes another one of it.")

    def __repr__(self) -> str:
        return "<Snapshot, over>" if self._version is None else f"<Snapshot of version {self.number}>"
