"""What setup prepares is a value of the transaction: taken back with it, and dropped once."""

import numpy as np
import pytest

from lazyflow_core.errors import SetupError
from lazyflow_core.graph import ParameterSlot

from .operators import OpAdd

IMAGE = np.arange(12.0).reshape(3, 4)


class Prepared:
    """What an operator holds for one amount."""

    def __init__(self, amount):
        self.amount = amount
        self.dropped = 0


class OpPrepares(OpAdd):
    """Adds the amount that its plan says."""

    def __init__(self, **slots):
        self.made = []
        super().__init__(**slots)

    def setup_outputs(self):
        super().setup_outputs()
        plan = Prepared(self.amount.value)
        self.made.append(plan)
        return plan

    def drop(self, plan):
        plan.dropped += 1

    def execute(self, slot, roi, out):
        assert not self.plan.dropped
        np.add(self.image.read(roi), self.plan.amount, out=out)


class OpRefuses(OpAdd):
    """Refuses to add more than ten."""

    most = ParameterSlot(float, default=10.0)

    def setup_outputs(self):
        if self.image.meta.shape[0] > 3 or self.amount.value > self.most.value:
            raise SetupError("too much")
        super().setup_outputs()


def dropped(op):
    return [plan.dropped for plan in op.made]


def test_what_setup_returns_is_the_plan_until_the_next_setup(graph):
    op = OpPrepares(graph=graph, image=IMAGE)
    first = op.plan
    assert np.array_equal(op.output.read(), IMAGE + 1)
    op.amount.value = 5
    assert op.plan is op.made[1]
    assert first.dropped == 1
    assert np.array_equal(op.output.read(), IMAGE + 5)
    op.close()
    assert op.plan is None
    assert dropped(op) == [1, 1]


def test_a_refused_change_takes_the_old_plan_back_and_drops_the_new_one(graph):
    op = OpPrepares(graph=graph, image=IMAGE)
    last = OpRefuses(graph=graph, image=op.output)
    first = op.plan
    with pytest.raises(SetupError), graph.transaction():
        op.amount.value = 5
        last.amount.value = 11
    assert op.plan is first
    assert dropped(op) == [0, 1]
    assert np.array_equal(last.output.read(), IMAGE + 2)
    with pytest.raises(SetupError):
        op.image.assign(np.zeros((5, 5)))
    assert dropped(op) == [0, 1, 1]
    assert np.array_equal(last.output.read(), IMAGE + 2)


def test_a_plan_goes_with_what_it_was_made_from(graph):
    op = OpPrepares(graph=graph, image=IMAGE)
    op.image.disconnect()
    assert op.plan is None
    assert dropped(op) == [1]
    op.image.assign(IMAGE)
    assert dropped(op) == [1, 0]
    with pytest.raises(KeyError), graph.transaction():
        op.close()
        raise KeyError("changed my mind")
    assert op.plan is op.made[1]
    assert dropped(op) == [1, 0]
    assert np.array_equal(op.output.read(), IMAGE + 1)


def test_plans_of_operators_that_were_made_for_nothing_are_dropped(graph):
    kept = []
    with pytest.raises(SetupError), graph.transaction():
        op = OpPrepares(graph=graph, image=IMAGE)
        kept.append(op)
        OpRefuses(graph=graph, image=op.output, amount=11)
    assert dropped(kept[0]) == [1]
    assert kept[0].plan is None


def test_a_plan_that_another_setup_of_the_same_change_replaces_is_dropped(graph):
    class OpTwiceSetUp(OpAdd):
        """Changes what comes before it, which is therefore set up once more."""

        def setup_outputs(self):
            super().setup_outputs()
            before.amount.value = self.amount.value

    before = OpPrepares(graph=graph, image=IMAGE)
    after = OpTwiceSetUp(graph=graph, image=before.output)
    del before.made[:-1]
    with graph.transaction():
        before.amount.value = 3
        after.amount.value = 7
    assert dropped(before) == [1, 1, 0]
    assert np.array_equal(before.output.read(), IMAGE + 7)


def test_a_drop_that_raises_is_reported_and_hinders_nobody(graph, caplog):
    class OpFails(OpPrepares):
        def drop(self, plan):
            super().drop(plan)
            raise OSError("the disk has gone")

    op = OpFails(graph=graph, image=IMAGE)
    op.amount.value = 5
    assert "OpFails.drop failed" in caplog.text
    assert dropped(op) == [1, 0]
