"""The order of the graph: right after every change, that of before after a refused one, and cheap to keep."""

import random
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest

from lazyflow_core.errors import ConnectError, LazyflowError
from lazyflow_core.graph import Graph, InputSlot, Lanes, Operator, OutputSlot, order
from lazyflow_core.graph.multi import MultiSlot
from lazyflow_core.graph.setup import Setup
from tests.graph.operators import OpAdd


class OpMany(Operator):
    """Two inputs and a list, two outputs and one that is passed on."""

    image = InputSlot(optional=True)
    other = InputSlot(optional=True)
    parts = InputSlot(level=1, optional=True)
    output = OutputSlot()
    second = OutputSlot()
    passed = OutputSlot()

    def __init__(self, log, **slots):
        self.log = log
        super().__init__(**slots)
        self.passed.connect(self.image)

    def setup_outputs(self):
        self.log["set up"].append(self)
        for output in self.computed:
            output.meta = self.image.meta if self.image.ready else None

    def execute(self, slot, roi, out):
        out[...] = 0

    def propagate_dirty(self, slot, roi):
        if self.log["told"][-1:] != [self]:  # of each of its inputs in one go
            self.log["told"].append(self)
        for output in self.computed:
            output.mark_dirty(roi)


class OpLanes(Operator):
    """An operator for each element of a list."""

    parts = InputSlot(level=1)
    results = OutputSlot(level=1)

    def __init__(self, **slots):
        Lanes(self.parts, lambda part: OpAdd(parent=self, image=part), {self.results: "output"})
        super().__init__(**slots)


def everything(graph):
    operators = list(graph.operators)
    for operator in operators:
        operators += operator.children
    return operators


def with_elements(slots):
    for slot in slots:
        yield slot
        if isinstance(slot, MultiSlot):
            yield from with_elements(slot)


def edges(graph):
    """Who has to come before whom, and whether at a lower rank: the definition, read off the whole graph."""
    for operator in everything(graph):
        for slot in with_elements(operator.slots.values()):
            if slot.upstream is not None:
                yield slot.upstream, slot, False
            if slot.feeds_operator:
                yield slot, operator, True
            elif slot.upstream is None and not slot.level:
                yield operator, slot, False


def check_order(graph):
    for before, behind, lower in edges(graph):
        assert before.rank < behind.rank if lower else before.rank <= behind.rank, (str(before), str(behind))


def ranks(graph):
    found = {}
    for operator in everything(graph):
        found[operator] = operator.rank
        found |= {slot: slot.rank for slot in with_elements(operator.slots.values())}
    return found


def depends(graph, slot, on):
    """Whether a slot or operator depends on another one: found by walking the whole graph."""
    behind = {}
    for before, after, _ in edges(graph):
        behind.setdefault(before, []).append(after)
    pending, seen = [on], {on}
    while pending:
        for after in behind.get(pending.pop(), ()):
            if after not in seen:
                seen.add(after)
                pending.append(after)
    return slot in seen


class Builder:
    """Changes a graph at random and compares with what its definition says."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.graph, self.log = Graph(), {"set up": [], "told": []}
        self.counts = {"connected": 0, "circles": 0, "refused": 0}
        for number in range(14):
            if number % 5 == 4:
                lanes = OpLanes(graph=self.graph)
                lanes.parts.resize(2)
            else:
                OpMany(self.log, graph=self.graph, name=f"op{number}")

    def sinks(self):
        for operator in self.graph.operators:
            for slot in with_elements(operator.slots.values()):
                if slot.feeds_operator and not slot.level:
                    yield slot

    def sources(self):
        for operator in self.graph.operators:
            for slot in with_elements(operator.slots.values()):
                if not slot.level and (not slot.feeds_operator or self.random.random() < 0.1):
                    yield slot

    def step(self):
        what, pick = self.random.random(), self.random.choice
        if what < 0.6:
            self.link(pick(list(self.sinks())), pick(list(self.sources())))
        elif what < 0.75:
            pick(list(self.sinks())).disconnect()
        elif what < 0.8:
            pick(list(self.sinks())).assign(np.zeros(3))
        elif what < 0.9:
            multi = pick([operator.parts for operator in self.graph.operators])
            if len(multi) > 3 or (len(multi) and what < 0.84):
                multi.remove(self.random.randrange(len(multi)))
            else:
                multi.insert(self.random.randint(0, len(multi)))
        else:
            operator = pick([o for o in self.graph.operators if isinstance(o, OpMany)])
            if self.random.random() < 0.5:
                self.link(operator.passed, pick([operator.image, *operator.parts, *self.sources()]))
            elif operator.passed.upstream is None or not depends(self.graph, operator, on=operator.passed):
                operator.passed.disconnect()
            else:
                with pytest.raises(ConnectError, match=r"cannot disconnect .* depends on it"):
                    operator.passed.disconnect()
                self.counts["circles"] += 1

    def link(self, slot, upstream):
        """Connect two slots, which is refused if and only if there would be a circle."""
        if slot.upstream is upstream or not depends(self.graph, upstream, on=slot):
            slot.connect(upstream)
            self.counts["connected"] += 1
        else:
            before = ranks(self.graph)
            with pytest.raises(ConnectError, match="depends on"):
                slot.connect(upstream)
            assert ranks(self.graph) == before
            self.counts["circles"] += 1

    def change(self):
        """Make a change of one or several steps, some of them refused in whole or in part."""
        for log in self.log.values():
            log.clear()
        refused = self.random.random() < 0.3
        before = ranks(self.graph)
        try:
            with self.graph.transaction():
                for _ in range(self.random.choice([1, 1, 2, 6])):
                    inner = ranks(self.graph)
                    if self.random.random() < 0.2:
                        with suppress(KeyError), self.graph.transaction():
                            self.step()
                            self.step()
                            raise KeyError
                        assert ranks(self.graph) == inner
                    else:
                        self.step()
                    check_order(self.graph)
                if refused:
                    raise LazyflowError("changed my mind")
        except LazyflowError:
            assert ranks(self.graph) == before
            self.counts["refused"] += 1
        else:
            self.check_log()
        check_order(self.graph)

    def check_log(self):
        """Whoever was set up, and then told, came once each, behind all that it depends on."""
        for log in self.log.values():
            for index, later in enumerate(log):
                for earlier in log[:index]:
                    assert later is not earlier
                    assert not depends(self.graph, earlier, on=later), (earlier.name, later.name)


@pytest.mark.parametrize("seed", range(12))
def test_after_every_change_the_order_is_one_and_after_a_refused_one_that_of_before(seed):
    builder = Builder(seed)
    for _ in range(40):
        builder.change()
    builder.graph.close()
    assert min(builder.counts.values()) > 2, builder.counts


def moved_for_good(self, target, rank):
    """As `Setup._set_rank`, without a note for taking it back."""
    object.__setattr__(target, "rank", rank)
    if target in self._affected:
        self._enqueue(target)


def moved_behind_the_queue(self, target, rank):
    """As `Setup._set_rank`, but who waits for its setup stays in the queue where it was."""
    self._undo.append((target, "rank", target.rank, -1))
    if target not in self._affected:
        object.__setattr__(target, "rank", rank)


def upstream_alone(upstream, slot, ranks):
    """As `_lower`, without what is before the upstream slot."""
    ranks[upstream] = slot.rank
    yield


def no_lists(slots):
    """As `_with_elements`, without the elements."""
    yield from slots


MUTANTS = {
    "ranks that are not taken back": (Setup, "_set_rank", moved_for_good),
    "who waits for its setup is not moved": (Setup, "_set_rank", moved_behind_the_queue),
    "only the upstream slot is lowered": (order, "_lower", upstream_alone),
    "lists whose elements are not lowered": (order, "_with_elements", no_lists),
}


@pytest.mark.parametrize(("where", "name", "fault"), MUTANTS.values(), ids=MUTANTS)
def test_these_changes_find_planted_faults(where, name, fault, monkeypatch):
    monkeypatch.setattr(where, name, fault)
    with pytest.raises(AssertionError):
        for seed in range(30):
            builder = Builder(seed)
            for _ in range(40):
                builder.change()


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_the_order_for_long():
    for seed in range(1000, 1300):
        builder = Builder(seed)
        for _ in range(60):
            builder.change()
        builder.graph.close()


@pytest.fixture
def moves(monkeypatch):
    """How often something was moved in the order."""
    moved = []

    def set_rank(self, target, rank):
        moved.append(target)
        original(self, target, rank)

    original = Setup._set_rank
    monkeypatch.setattr(Setup, "_set_rank", set_rank)
    return moved


#: What moves with an `OpAdd`: itself, its input, its parameter, its output.
MEMBERS = 4


def links(graph, length):
    operators = [OpAdd(graph=graph) for _ in range(length)]
    return list(pairwise(operators))


def connect_all(pairs):
    for before, behind in pairs:
        behind.image.connect(before.output)


@pytest.mark.parametrize("direction", [iter, reversed])
def test_a_chain_is_connected_in_either_direction_at_the_price_of_one_operator_each(direction, moves):
    with Graph() as graph:
        connect_all(direction(links(graph, 300)))
        assert len(moves) <= 310 * MEMBERS  # against it all that was behind was raised: 135 000
        check_order(graph)


def test_a_chain_that_is_connected_in_any_order_moves_the_shorter_piece_each_time(moves):
    with Graph() as graph:
        pairs = links(graph, 256)
        random.Random(0).shuffle(pairs)
        connect_all(pairs)
        assert len(moves) <= 256 * 8 * MEMBERS
        check_order(graph)


def test_a_long_chain_is_not_moved_for_what_is_put_before_or_behind_it(moves):
    with Graph() as graph:
        pairs = links(graph, 200)
        connect_all(pairs)
        (first, _), (_, last) = pairs[0], pairs[-1]
        moves.clear()
        for _ in range(50):
            before, behind = OpAdd(graph=graph), OpAdd(graph=graph)
            first.image.connect(before.output)
            behind.image.connect(last.output)
            first, last = before, behind
        assert len(moves) <= 100 * MEMBERS
        check_order(graph)


def test_what_was_moved_while_something_was_taken_away_is_moved_back(graph):
    # It was raised while nothing was behind it; taken back were the connections, not the ranks.
    a = OpAdd(graph=graph, name="a")
    behind = OpAdd(graph=graph, name="behind", image=a.output)
    pairs = links(graph, 10)
    connect_all(pairs)
    with suppress(KeyError), graph.transaction():
        behind.image.disconnect()
        a.image.connect(pairs[-1][1].output)
        raise KeyError
    check_order(graph)


def test_an_operator_that_is_lowered_while_it_waits_for_its_setup_is_set_up_in_its_new_place(graph):
    with graph.transaction():
        source = OpAdd(graph=graph, name="source", image=np.zeros(3))
        late = OpAdd(graph=graph, name="late", image=source.output)
        tail = [OpAdd(graph=graph, name=f"tail{n}") for n in range(20)]
        connect_all(pairwise(tail))
        # The chain stays where it is: what it depends on is lowered, though it waits for its setup already.
        tail[0].image.connect(late.output)
    assert [op.setups for op in (source, late, *tail)] == [1] * 22
    assert late.rank < tail[0].rank
    check_order(graph)


def test_an_operator_that_was_moved_and_moved_back_is_set_up_in_its_old_place(graph):
    pairs = links(graph, 10)
    connect_all(pairs)
    first = OpAdd(graph=graph, image=np.zeros(3))
    second = OpAdd(graph=graph, image=first.output)
    with graph.transaction():
        with suppress(KeyError), graph.transaction():
            first.image.connect(pairs[-1][1].output)
            first.amount.value = 50.0
            raise KeyError
        first.amount.value = 5.0
    assert (first.setups, second.setups) == (2, 1)
    assert np.array_equal(second.output.read(), [6, 6, 6])


class OpAlso(Operator):
    """Adds what it is given in addition; hands its image on."""

    image = InputSlot()
    other = InputSlot()
    passed = OutputSlot()

    def __init__(self, **slots):
        super().__init__(**slots)
        self.passed.connect(self.image)


def test_what_feeds_its_own_operator_in_another_way_is_connected_anew_and_closed(graph):
    # No circle as long as it is connected; it counted as one that is computed in between.
    first, second = OpAdd(graph=graph, image=np.zeros(3)), OpAdd(graph=graph, image=np.ones(3))
    op = OpAlso(graph=graph, name="op", image=first.output)
    op.other.connect(OpAdd(graph=graph, image=op.passed).output)
    op.passed.connect(second.output)
    assert np.array_equal(op.other.read(), [3, 3, 3])
    with pytest.raises(ConnectError, match=r"cannot disconnect op\.passed: op, which would compute it"):
        op.passed.disconnect()
    assert np.array_equal(op.other.read(), [3, 3, 3])
    op.close()
    check_order(graph)
