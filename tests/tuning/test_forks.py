"""Forks that answer messages: what one of them costs the others, and what is left when they are stopped."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tvmconv.base.processes import ProcessError
from tvmconv.tuning.measuring.forks import Forks


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_death_and_a_hang_cost_one_message_each() -> None:
    forks = Forks("answers", 2)
    try:
        messages = [1, "die", 2, "sleep", 3, "raise", 4, 5, 6, 7]
        answers = forks.ask_all(messages, 3)
        said = [str(a) if isinstance(a, ProcessError) else a[0] for a in answers]
        died = "the process ended with"
        assert said == [
            1, f"{died} SIGKILL", 2, "no answer within 3 s", 3, f"{died} status 1", 4, 5, 6, 7,
        ]  # fmt: skip
        assert [a[0] for a in forks.ask_all(list(range(100)), 3)] == list(range(100))
        assert forks.ask_all([], 3) == []
    finally:
        forks.stop()


def test_all_forks_work_and_idle_ones_that_die_are_replaced() -> None:
    forks = Forks("answers", 3)
    try:
        forks.ask_all([0], 10)
        alive = children(forks.process.pid)
        for pid in alive:
            os.kill(pid, 9)
        used = {pid for _, pid in forks.ask_all(list(range(300)), 10)}
        assert len(used) == 3 and not used & set(alive)
    finally:
        forks.stop()


def test_the_end_of_the_process_is_said_and_the_next_question_starts_another() -> None:
    forks = Forks("no_such_module", 2)
    (answer,) = forks.ask_all([1], 10)
    assert str(answer) == "the process ended with status 1" and forks.process is None
    forks.module = "answers"
    try:
        assert forks.ask_all([1], 10)[0][0] == 1
    finally:
        forks.stop()


def test_an_interrupt_at_work_leaves_nothing() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    forks = Forks("answers", 2)
    forks.ask_all([0], 10)
    pids = [forks.process.pid, *children(forks.process.pid)]
    assert len(pids) == 3 and all(map(runs, pids))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            forks.ask_all(["sleep", 1, 2], 50)
    finally:
        signal.signal(signal.SIGALRM, before)
    until = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert forks.process is None and not any(map(runs, pids))
