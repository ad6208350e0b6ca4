"""Pace, ramp and breaker, with numbers for a clock."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.client.breaker import Breaker, BreakerPolicy, is_no_chance
from llmpipe.client.limiter import AUTO_START, PATIENCE, Pace, Ramp


def ramp_at(limit: int) -> Ramp:
    """A ramp without a ceiling that has come to `limit`."""
    ramp = Ramp()
    for _ in range(limit - ramp.allowed):
        ramp.answered(in_use=True)
    return ramp


def changes(ramp: Ramp, ranks: list[int]) -> list[tuple[int, int]]:
    """Which of the rejections (from 1) changed the limit, and to what."""
    return [(number, ramp.allowed) for number, rank in enumerate(ranks, 1) if ramp.rejected(rank) is not False]


class TestPace:
    @given(
        rate=st.floats(1, 100_000),
        calls=st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 1)), min_size=1, max_size=200),
    )
    def test_no_window_of_a_minute_ever_holds_more_than_the_rate(
        self, rate: float, calls: list[tuple[float, float]]
    ) -> None:
        """Up to one call, which passes before it is counted."""
        pace, now = Pace(rate), 0.0
        passed: list[tuple[float, float]] = []
        for delay, share in calls:
            units = share * rate
            now = max(now + delay, pace.ready_at())
            pace.take(now, units)
            passed.append((now, units))
        for index, (start, _) in enumerate(passed):
            window = [units for at, units in passed[index:] if at < start + 60]
            assert sum(window[:-1]) <= rate * (1 + 1e-6)

    def test_requests_are_spread_evenly_and_never_more_than_the_rate(self) -> None:
        pace, now, times = Pace(60), 0.0, []
        for _ in range(200):
            now = max(now, pace.ready_at())
            pace.take(now, 1)
            times.append(now)
        gaps = [b - a for a, b in itertools.pairwise(times[1:])]
        assert min(gaps) > 0.99
        assert max(sum(start <= t < start + 60 for t in times) for start in times) <= 60

    def test_an_overestimate_is_given_back(self) -> None:
        pace = Pace(600)
        pace.take(0.0, 100)
        before = pace.ready_at()
        pace.correct(-90)
        assert pace.ready_at() == pytest.approx(before - 90 * 60.15 / 600)

    def test_unused_time_is_not_saved_up(self) -> None:
        pace = Pace(60)
        pace.take(1000.0, 1)
        assert pace.ready_at() > 1000.5

    def test_a_minute_and_a_slack_and_a_half_are_divided_among_the_units(self) -> None:
        pace = Pace(60)
        assert pace.ready_at() == -0.1
        pace.take(10.0, 2)
        assert pace.ready_at() == pytest.approx(10 + 2 * 1.0025 - 0.1, abs=1e-9)
        pace.take(11.0, 1)  # too early: it is counted from where the others end
        assert pace.ready_at() == pytest.approx(10 + 3 * 1.0025 - 0.1, abs=1e-9)
        pace.correct(2)
        assert pace.ready_at() == pytest.approx(10 + 5 * 1.0025 - 0.1, abs=1e-9)
        pace.start_at(50.0)
        assert pace.ready_at() == pytest.approx(50.0, abs=1e-9)

    @pytest.mark.parametrize("rate", [0.0, -1.0, math.nan])
    def test_a_rate_is_above_0(self, rate: float) -> None:
        with pytest.raises(ValueError, match="a rate above 0"):
            Pace(rate)
        assert Pace(0.5).per_minute == 0.5


class TestRamp:
    def test_it_doubles_every_round_trip_until_the_first_rejection(self) -> None:
        ramp = Ramp()
        for _ in range(3):
            for _ in range(ramp.allowed):
                ramp.answered(in_use=True)
        assert ramp.allowed == AUTO_START * 8
        assert ramp.rejected(41) is True
        assert ramp.allowed == 40

    def test_a_limit_that_nobody_needs_does_not_grow(self) -> None:
        ramp = Ramp()
        for _ in range(100):
            ramp.answered(in_use=False)
        assert ramp.allowed == AUTO_START

    def test_the_ceiling_is_remembered_and_tried_ever_more_rarely(self) -> None:
        ramp = Ramp()
        ramp.rejected(7)
        tries = []
        answers = 0
        for _ in range(20 * PATIENCE):
            ramp.answered(in_use=True)
            answers += 1
            if ramp.allowed > 6:
                tries.append(answers)
                ramp.rejected(7)
                assert ramp.allowed == 6
                answers = 0
        assert tries[0] == PATIENCE
        assert tries[1:4] == [2 * PATIENCE, 4 * PATIENCE, 8 * PATIENCE]

    def test_a_ceiling_that_was_raised_is_found_with_growing_steps(self) -> None:
        ramp = Ramp()
        ramp.rejected(7)
        for _ in range(4 * PATIENCE):
            ramp.answered(in_use=True)
        assert ramp.allowed == 6 + 1 + 2 + 4 + 8

    def test_rejections_that_come_soon_again_lower_the_ceiling_by_one(self) -> None:
        ramp = Ramp()
        for _ in range(3):
            ramp.rejected(51)
        assert ramp.allowed == AUTO_START - 3

    def test_rejections_while_few_are_in_flight_say_nothing_about_the_number(self) -> None:
        ramp = Ramp()
        for _ in range(56):
            ramp.answered(in_use=True)
        for rank in (1, 9, 3, 20, 2, 13, 60, 5, 30, 64, 4):
            ramp.rejected(rank)
        assert ramp.allowed >= 62

    def test_several_at_about_the_same_number_show_that_the_provider_became_narrower(self) -> None:
        ramp = Ramp()
        for _ in range(56):
            ramp.answered(in_use=True)
        for rank in (11, 12, 11, 11, 12, 11):
            ramp.rejected(rank)
        assert ramp.allowed == 10

    @given(st.lists(st.one_of(st.just("ok"), st.integers(1, 2000)), max_size=300))
    def test_the_limit_stays_within_its_bounds(self, story: list[str | int]) -> None:
        ramp = Ramp()
        for event in story:
            if event == "ok":
                ramp.answered(in_use=True)
            else:
                ramp.rejected(int(event))
            assert 1 <= ramp.allowed <= 1024

    @pytest.mark.parametrize(
        ("fixed", "most", "start", "end"),
        [
            (None, None, 8, 1024),
            (None, 5, 5, 5),
            (None, 12, 8, 12),
            (None, 2000, 8, 2000),
            (7, None, 7, 7),
            (7, 3, 3, 3),
            (2000, None, 2000, 2000),
        ],
    )
    def test_it_starts_at_8_and_stops_growing_at_its_bound(
        self, fixed: int | None, most: int | None, start: int, end: int
    ) -> None:
        ramp = Ramp(fixed, most)
        assert ramp.allowed == start
        for _ in range(2500):
            ramp.answered(in_use=True)
        assert ramp.allowed == end

    def test_above_the_ceiling_each_step_takes_500_answers_in_use(self) -> None:
        ramp, seen = Ramp(most=20), []
        ramp.rejected(7)
        for number in range(1, 2600):
            before = ramp.allowed
            ramp.answered(in_use=True)
            ramp.answered(in_use=False)
            if ramp.allowed != before:
                seen.append((number, ramp.allowed))
        assert seen == [(500, 7), (1000, 9), (1500, 13), (2000, 20)]

    def test_the_patience_doubles_with_each_try_that_fails_up_to_16000_answers(self) -> None:
        ramp, waits, answers = Ramp(), [], 0
        assert changes(ramp, [8, 7]) == [(1, 7), (2, 6)]
        while len(waits) < 7:
            ramp.answered(in_use=True)
            answers += 1
            if ramp.allowed == 7:
                waits.append(answers)
                assert ramp.rejected(7)
                answers = 0
        assert waits == [500, 1000, 2000, 4000, 8000, 16_000, 16_000]

    def test_a_rejection_counts_if_more_than_half_of_the_limit_was_in_flight(self) -> None:
        assert changes(Ramp(), [4]) == []
        assert changes(Ramp(), [5]) == [(1, 4)]
        assert changes(Ramp(), [50]) == [(1, 7)]
        assert changes(Ramp(most=1), [2]) == []

    def test_rejections_count_once_those_at_few_are_a_quarter_of_the_late_ones(self) -> None:
        assert changes(Ramp(), [2, 8, 8]) == []
        assert changes(Ramp(), [2, 8, 8, 8]) == [(4, 7)]

    def test_six_at_few_within_a_factor_of_1_3_count(self) -> None:
        assert changes(ramp_at(64), [10, 13, 10, 13, 10]) == []
        assert changes(ramp_at(64), [10, 13, 10, 13, 10, 13]) == [(6, 9)]
        assert changes(ramp_at(64), [10, 14] * 6) == []
        assert changes(ramp_at(64), [20, 10, 13, 10, 13, 10, 13]) == [(7, 9)]

    def test_a_rejection_of_a_call_that_was_alone_starts_the_search_anew(self) -> None:
        """The next rejections change nothing: six at the same number do, and later as many as outweigh it."""
        ramp = Ramp()
        assert changes(ramp, [5, 1]) == [(1, 4), (2, 8)]
        ramp.answered(in_use=True)
        assert ramp.allowed == 9
        ramp = ramp_at(64)
        assert changes(ramp, [64, 1]) == [(1, 63)]
        assert changes(ramp, [60] * 13) == [(6, 59), (12, 58), (13, 57)]
        ramp = ramp_at(64)
        ramp.rejected(1)
        assert changes(ramp, [60] * 5 + [1] + [60] * 5) == []
        small = Ramp(most=6)
        assert changes(small, [4, 1]) == [(1, 3), (2, 6)]

    def test_a_fixed_number_is_never_changed(self) -> None:
        ramp = Ramp(3)
        assert ramp.rejected(3) is False
        ramp.answered(in_use=True)
        assert ramp.allowed == 3


class TestBreaker:
    POLICY = BreakerPolicy(threshold=3, first_wait_s=1, wait_cap_s=4, probes=3, rest_s=60)

    def opened(self) -> Breaker:
        breaker = Breaker(self.POLICY)
        assert [breaker.fault(0.0, breaker.passed()) for _ in range(3)] == [False, False, True]
        return breaker

    def test_it_opens_after_faults_in_a_row_only(self) -> None:
        breaker = Breaker(self.POLICY)
        for _ in range(10):
            breaker.fault(0.0, breaker.passed())
            breaker.fault(0.0, breaker.passed())
            breaker.answered(breaker.passed())
        assert breaker.state == "closed"
        assert self.opened().state == "open"

    def test_it_waits_then_lets_one_probe_pass_and_closes_on_its_answer(self) -> None:
        breaker = self.opened()
        assert breaker.ready_at() == 1.0
        probe = breaker.passed()
        assert probe.probe
        assert breaker.ready_at() == math.inf
        assert breaker.answered(probe) is True
        assert (breaker.state, breaker.ready_at(), breaker.passed().probe) == ("closed", 0.0, False)

    def test_each_failed_probe_doubles_the_wait_until_it_gives_up(self) -> None:
        breaker, now, waits = self.opened(), 0.0, []
        while not breaker.is_down(now):
            waits.append(breaker.ready_at() - now)
            now = breaker.ready_at()
            probe = breaker.passed()
            assert probe.probe
            assert breaker.fault(now, probe)
        assert waits == [1, 2, 4]
        assert breaker.is_down(now + 59)
        assert not breaker.is_down(now + 61)

    def test_late_faults_of_calls_that_were_in_flight_change_nothing(self) -> None:
        breaker = Breaker(self.POLICY)
        calls = [breaker.passed() for _ in range(53)]
        assert [breaker.fault(0.0, call) for call in calls[:3]] == [False, False, True]
        for call in calls[3:]:
            assert breaker.fault(0.5, call) is False
        assert breaker.ready_at() == 1.0

    def test_a_probe_that_was_cancelled_leaves_room_for_the_next(self) -> None:
        breaker = self.opened()
        breaker.abandoned(5.0, breaker.passed())
        assert breaker.ready_at() == 5.0
        assert breaker.passed().probe is True

    def test_answers_to_calls_from_before_the_faults_do_not_close_it(self) -> None:
        breaker = Breaker(self.POLICY)
        early = [breaker.passed() for _ in range(5)]
        assert not any(breaker.fault(0.0, breaker.passed()) for _ in range(5))
        assert any(breaker.fault(0.0, breaker.passed()) for _ in range(20))
        for call in early:
            assert breaker.answered(call) is False
        assert breaker.state == "open"

    def test_an_answer_to_a_call_from_after_the_faults_closes_it_at_once(self) -> None:
        breaker = Breaker(self.POLICY)
        calls = [breaker.passed() for _ in range(10)]
        assert [breaker.fault(0.0, call) for call in calls[:3]][-1] is True
        assert breaker.answered(calls[9]) is True
        assert (breaker.state, breaker.faults) == ("closed", 0)

    @given(st.integers(1, 400), st.integers(0, 400), st.integers(1, 20), st.floats(0.05, 0.9))
    def test_more_faults_weigh_more_and_more_calls_without_an_end_weigh_less(
        self, faults: int, others: int, threshold: int, tolerated: float
    ) -> None:
        policy = BreakerPolicy(threshold=threshold, tolerated=tolerated)
        here = is_no_chance(faults, others, policy)
        assert is_no_chance(faults + 1, others, policy) >= here
        assert is_no_chance(faults, others + 1, policy) <= here
        assert is_no_chance(faults, 0, policy) is (faults >= threshold)
        if faults <= tolerated * (faults + others):
            assert not here

    @given(st.integers(1, 400))
    def test_where_all_calls_of_a_flight_fail_it_opens_before_a_flight_and_a_half_has_failed(self, flight: int) -> None:
        needed = next(n for n in range(1, 1000) if is_no_chance(n, max(0, flight - n), BreakerPolicy()))
        assert needed <= 5 + 0.65 * flight

    def test_the_documented_defaults(self) -> None:
        assert BreakerPolicy() == BreakerPolicy(5, 0.3, 0.5, 30.0, 6, 60.0)

    def test_a_number_without_faults_or_at_the_tolerated_share_is_chance(self) -> None:
        policy = BreakerPolicy(threshold=0)
        assert [is_no_chance(0, 0, policy), is_no_chance(3, 7, policy)] == [False, False]
        assert [is_no_chance(n, 0, BreakerPolicy()) for n in (4, 5, 6)] == [False, True, True]

    @pytest.mark.parametrize("others", [0, 1, 5, 20, 100])
    def test_the_bound_is_chernoffs(self, others: int) -> None:
        def surprise(faults: int) -> float:
            share = faults / (faults + others)
            rest = 1 - share
            if share <= 0.3:
                return 0.0
            return (faults + others) * (share * math.log(share / 0.3) + (rest and rest * math.log(rest / 0.7)))

        level = 5 * -math.log(0.3) - 1e-9
        assert [is_no_chance(n, others, BreakerPolicy()) for n in range(1, 200)] == [
            n >= 5 and surprise(n) >= level for n in range(1, 200)
        ]

    def test_the_waits_double_up_to_their_cap_and_an_answer_starts_them_anew(self) -> None:
        policy = BreakerPolicy(threshold=1, first_wait_s=1, wait_cap_s=5, probes=1200, rest_s=60)
        breaker, waits = Breaker(policy), []
        breaker.fault(0.0, breaker.passed())
        for _ in range(1100):
            waits.append(breaker.ready_at())
            breaker.fault(0.0, breaker.passed())
        assert waits == [1, 2, 4] + [5] * 1097
        assert breaker.answered(breaker.passed())
        assert (breaker.failed_probes, breaker.state) == (0, "closed")
        breaker.fault(0.0, breaker.passed())
        assert breaker.ready_at() == 1

    def test_a_provider_is_down_from_the_last_probe_until_the_rest_is_over_or_an_answer_comes(self) -> None:
        breaker = self.opened()
        for _ in range(2):
            breaker.fault(10.0, breaker.passed())
        assert not breaker.is_down(10.0)
        breaker.fault(10.0, breaker.passed())
        assert [breaker.is_down(at) for at in (10.0, 69.9, 70.0)] == [True, True, False]
        assert (breaker.ready_at(), breaker.faults) == (70.0, 6)
        breaker.answered(breaker.passed())
        assert not breaker.is_down(0.5)

    def test_an_answer_closes_it_if_fewer_faults_than_the_threshold_came_after_that_call(self) -> None:
        for answered, closes, left in ((2, False, 3), (3, True, 2)):
            breaker = Breaker(self.POLICY)
            calls = [breaker.passed() for _ in range(6)]
            for at in sorted({0, 1, 2, 3, 4, 5} - {answered}):
                breaker.fault(0.0, calls[at])
            assert (breaker.state, breaker.faults) == ("open", 5)
            assert breaker.answered(calls[answered]) is closes
            assert (breaker.state, breaker.faults) == ("closed" if closes else "open", left)

    def test_calls_without_a_verdict_are_not_waited_for_and_nothing_is_kept_of_them(self) -> None:
        breaker = Breaker(self.POLICY)
        calls = [breaker.passed() for _ in range(10)]
        for call in calls[:7]:
            breaker.abandoned(0.0, call)
        assert [breaker.fault(0.0, call) for call in calls[7:]] == [False, False, True]
        assert breaker.state == "open"
        assert breaker.answered(breaker.passed())
        assert (breaker._out, breaker._faults) == (set(), [])

    def test_a_probe_that_is_abandoned_after_another_answer_leaves_it_closed(self) -> None:
        breaker = Breaker(self.POLICY)
        calls = [breaker.passed() for _ in range(4)]
        for call in calls[:3]:
            breaker.fault(0.0, call)
        probe = breaker.passed()
        assert breaker.state == "probing"
        breaker.answered(calls[3])
        breaker.abandoned(9.0, probe)
        assert (breaker.state, breaker.ready_at()) == ("closed", 0.0)
        breaker.abandoned(9.0, breaker.passed())
        assert breaker.state == "closed"
