"""X9: whatever is put and read in whatever order, the channel does what its policy says."""

from __future__ import annotations

from collections import defaultdict

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from profiles import thorough
from run_events import RunEvents, accounted

from streamll.core.errors import ChannelClosed, ChannelOverflow
from streamll.core.events import StreamGap, TokenEvent
from streamll.core.ordering import OrderCheck
from streamll.flow.buffer import DROPPABLE, HARD_LIMIT
from streamll.flow.channel import Channel

SAY = {
    "token": lambda run, call: run.token("ab", call),
    "empty": lambda run, call: run.token("", call),
    "module": lambda run, call: run.module(),
    "status": lambda run, call: run.status(),
    "custom": lambda run, call: run.custom(),
}


class ChannelModel(RuleBasedStateMachine):
    """One thread does everything; the model is the list of what was put."""

    policy = "block"

    @initialize(capacity=st.integers(1, 6))
    def make(self, capacity):
        self.capacity = capacity
        self.channel = Channel(capacity, self.policy)
        self.runs = [RunEvents("one"), RunEvents("two")]
        self.put_events: dict[str, list] = defaultdict(list)
        self.read_events: dict[str, list] = defaultdict(list)
        self.lifecycle = 0
        self.refused = False
        self.closed = False
        self.abandoned = False

    @rule(
        who=st.integers(0, 1),
        what=st.sampled_from(["token"] * 6 + ["empty", "module", "status", "custom"]),
        call=st.sampled_from(["a", "b"]),
        times=st.sampled_from([1, 1, 1, 2, 7, 30]),
    )
    def put(self, who, what, call, times):
        for _ in range(times):
            event = SAY[what](self.runs[who], call)
            try:
                self.channel.put(event)
            except ChannelOverflow:
                assert self.policy == "fail"
                self.refused = True
                continue
            assert not self.refused or self.closed or self.abandoned
            if not (self.closed or self.abandoned):
                self.put_events[event.run_id].append(event)
                self.lifecycle += not isinstance(event, DROPPABLE)

    @rule(limit=st.sampled_from([1, 1, 2, 5, 100]))
    def get(self, limit):
        buffered = self.channel.statistics().buffered
        readable = not self.channel.empty
        try:
            events = self.channel.get_batch(limit, timeout=0)
        except TimeoutError:
            assert not readable
            assert not any([self.closed, self.abandoned, self.refused])
        except ChannelClosed:
            assert not readable
            assert self.closed or self.abandoned
        except ChannelOverflow:
            assert not readable
            assert self.refused
        else:
            assert readable
            assert len(events) <= limit
            assert buffered - self.channel.statistics().buffered <= limit
            for event in events:
                self.read_events[event.run_id].append(event)
            self.what_was_read_is_what_was_put()

    @rule(end=st.sampled_from([None] * 18 + ["close", "abandon"]))
    def end(self, end):
        if end == "close":
            self.channel.close()
            self.closed = True
        elif end == "abandon":
            self.channel.abandon()
            self.abandoned = True

    @invariant()
    def counts_add_up(self):
        assert accounted(self.channel.statistics())

    @invariant()
    def memory_is_bounded(self):
        buffer = self.channel._buffer
        assert buffer.markers <= buffer.size + 1
        lifecycle = self.lifecycle
        if self.policy == "drop_oldest":
            assert buffer.size <= self.capacity + lifecycle
        if self.policy == "coalesce":
            calls = 4
            assert buffer.size <= self.capacity * HARD_LIMIT + lifecycle + calls * (lifecycle + 1)

    def what_was_read_is_what_was_put(self):
        for run_id, put in self.put_events.items():
            self.check_run(put, self.read_events[run_id])

    def check_run(self, put, read):
        raise AssertionError("each policy says what a reader gets")

    def teardown(self):
        if hasattr(self, "channel") and not self.abandoned:
            self.channel.close()
            self.closed = True
            while True:
                try:
                    event = self.channel.get(timeout=0)
                except (ChannelClosed, ChannelOverflow):
                    break
                self.read_events[event.run_id].append(event)
            self.what_was_read_is_what_was_put()
            for run_id, put in self.put_events.items():
                self.check_whole(put, self.read_events[run_id])

    def check_whole(self, put, read):
        """Everything has been read."""
        self.check_run(put, read)
        gaps = sum(event.count for event in read if isinstance(event, StreamGap))
        assert gaps + sum(getattr(event, "count", 1) for event in without_gaps(read)) == len(put)


def without_gaps(events):
    return [event for event in events if not isinstance(event, StreamGap)]


class BlockModel(ChannelModel):
    policy = "block"

    def check_run(self, put, read):
        assert read == put[: len(read)]

    @invariant()
    def producers_wait_from_the_capacity_on(self):
        size = self.channel.statistics().buffered
        if self.closed or self.abandoned:
            assert not self.channel.full
        else:
            assert self.channel.full or size < self.capacity
            assert not self.channel.full or size > self.capacity // 2
            assert self.channel.overfull == (size >= self.capacity * HARD_LIMIT)


class FailModel(BlockModel):
    policy = "fail"

    @invariant()
    def producers_wait_from_the_capacity_on(self):
        assert not self.channel.full
        assert self.channel.statistics().buffered <= self.capacity * HARD_LIMIT


class DropOldestModel(ChannelModel):
    policy = "drop_oldest"

    def check_run(self, put, read):
        """A gap stands exactly where its events were; nothing else is missing."""
        position = 0
        for event in read:
            if isinstance(event, StreamGap):
                lost = put[position : position + event.count]
                assert all(isinstance(lost_event, DROPPABLE) for lost_event in lost)
                position += event.count
            else:
                assert event == put[position]
                position += 1


class CoalesceModel(ChannelModel):
    policy = "coalesce"

    across_calls = False

    @invariant()
    def merging_across_calls_is_noticed(self):
        self.across_calls = self.across_calls or self.channel._buffer._coalescer.across_calls

    def check_run(self, put, read):
        """Every text is a beginning of what was said; other events keep their order."""
        check = OrderCheck(holes=True)
        position = 0
        said, heard = defaultdict(str), defaultdict(str)
        for event in put:
            if isinstance(event, TokenEvent):
                said[event.call_id] += event.token
        for event in read:
            if isinstance(event, StreamGap):
                position += event.count
                continue
            check.check(event)
            assert event.seq == position or self.across_calls
            position += getattr(event, "count", 1)
            if isinstance(event, TokenEvent):
                assert event.offset == len(heard[event.call_id])
                heard[event.call_id] += event.token
        for call_id, text in heard.items():
            assert said[call_id].startswith(text)

    def check_whole(self, put, read):
        super().check_whole(put, read)
        kept = [event for event in put if not isinstance(event, DROPPABLE)]
        assert [event for event in without_gaps(read) if not isinstance(event, DROPPABLE)] == kept
        put_text = "".join(e.token for e in put if isinstance(e, TokenEvent))
        assert len(put_text) == len("".join(e.token for e in read if isinstance(e, TokenEvent)))


@pytest.mark.parametrize("model", [BlockModel, FailModel, DropOldestModel, CoalesceModel])
def test_channels_against_a_model(model):
    """Nothing lost, nothing doubled, order kept, bounds as stated, losses where they were."""
    settings = hypothesis.settings(
        max_examples=thorough(100), stateful_step_count=25, deadline=None
    )
    hypothesis.stateful.run_state_machine_as_test(model, settings=settings)
