"""What waits holds back what must come after it, and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamll.guards.lanes import Lanes, Waiting

TREE = {"a": None, "b": "a", "c": "a", "d": "b", "e": None}


def lanes():
    made = Lanes()
    for call, around in TREE.items():
        made.is_inside(call, around)
    return made


class Line:
    """Lanes over the calls of ``TREE``, and what has come out of them."""

    def __init__(self):
        self.lanes = lanes()
        self.out = []
        self.held = {}

    def put(self, name, call, *, waits=0, **options):
        go = lambda: self.out.append(name)  # noqa: E731
        self.held[name] = Waiting(call, go, undecided=waits, **options)
        self.lanes.put(self.held[name])

    def decide(self, name):
        self.lanes.decided(self.held[name])


def test_other_calls_go_on():
    line = Line()
    line.put("b1", "b", waits=1)
    line.put("b2", "b")  # the same call
    line.put("a1", "a")  # around it
    line.put("run", None)
    line.put("c1", "c")
    line.put("d1", "d")  # inside it
    line.put("e1", "e")
    assert line.out == ["c1", "d1", "e1"]
    line.decide("b1")
    assert line.out == ["c1", "d1", "e1", "b1", "b2", "a1", "run"]
    assert not list(line.lanes)


def test_something_may_follow_another_call():
    line = Line()
    line.put("b1", "b", waits=1)
    line.put("d1", "d")
    line.put("d2", "d", follows=("b",))
    line.put("c1", "c")
    line.put("b2", "b")
    assert line.out == ["d1", "c1"]
    line.decide("b1")
    assert line.out == ["d1", "c1", "b1", "d2", "b2"]


def test_a_beginning_holds_back_what_is_inside():
    line = Line()
    line.put("a", "a", waits=2, begins=True)
    line.put("d1", "d")
    line.put("a1", "a")
    line.put("e1", "e")
    line.decide("a")
    assert line.out == ["e1"]
    line.decide("a")
    assert line.out == ["e1", "a", "d1", "a1"]


def around(call):
    found = [call]
    while call is not None:
        call = TREE[call]
        found.append(call)
    return found


THINGS = st.tuples(st.sampled_from([*TREE, None]), st.integers(0, 2), st.booleans())


@given(st.lists(THINGS, max_size=12), st.randoms(use_true_random=False))
def test_what_comes_out_keeps_the_order_it_must(things, random):
    line, expected = Line(), []
    verdicts = []
    for number, (call, waits, begins) in enumerate(things):
        line.put(number, call, waits=waits, begins=begins)
        verdicts += [number] * waits
    random.shuffle(verdicts)

    def may_go(number):
        call = things[number][0]
        return not any(
            call in around(things[before][0])
            or (things[before][2] and things[before][0] in around(call))
            for before in range(number)
            if before not in line.out
        )

    open_ = [waits for _, waits, _ in things]
    for decided in [None, *verdicts]:
        if decided is not None:
            open_[decided] -= 1
            line.decide(decided)
        expected = [n for n in range(len(things)) if n not in line.out]
        assert not any(may_go(n) and not open_[n] for n in expected)
    assert sorted(line.out) == list(range(len(things)))
    place = {number: at for at, number in enumerate(line.out)}
    for later, (call, _, _) in enumerate(things):
        for earlier in range(later):
            other, _, begins = things[earlier]
            if call in around(other) or (begins and other in around(call)):
                assert place[earlier] < place[later]
