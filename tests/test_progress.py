"""The progress of work: what the line says, once a while in a log, redrawn on a terminal."""

import io
import os
from pathlib import Path

import pytest

from pipeline.progress import PLAIN_SECONDS, PlainLines, Terminal, Work, describe, format_about, format_clock


def test_the_line_says_what_is_done_how_fast_and_how_long_it_takes():
    work = Work(9000, "photographs", label="[3/12] clean_train_set", later=300.0)
    assert describe(work, 0, 9000, 0, 1.0) == "[3/12] clean_train_set · photographs 0 of 9,000"
    line = describe(work, 1200, 9000, 0, 10.0, "loss 1.2")
    assert line == (
        "[3/12] clean_train_set · photographs 1,200 of 9,000 · 120/s · 1:05 left · loss 1.2 · run about 6 min left"
    )
    # What an earlier process did says nothing of the rate.
    assert describe(Work(100, "steps"), 60, 100, 50, 20.0) == "steps 60 of 100 · 0.5/s · 1:20 left"


@pytest.mark.parametrize(("seconds", "clock", "about"), [
    (0, "0:00", "0 s"), (65, "1:05", "65 s"), (119, "1:59", "119 s"), (330, "5:30", "6 min"),
    (7265, "2:01:05", "2.0 h"),
])  # fmt: skip
def test_times_are_as_a_person_reads_them(seconds, clock, about):
    assert (format_clock(seconds), format_about(seconds)) == (clock, about)


def test_a_file_gets_a_plain_line_now_and_then_and_no_control_character():
    stream, now = io.StringIO(), [0.0]
    with PlainLines(Work(100, "pairs"), stream, lambda: now[0]) as lines:
        for _ in range(100):
            now[0] += 1.0
            lines.update(1)
    printed = stream.getvalue().splitlines()
    assert len(printed) == int(100 / PLAIN_SECONDS)
    assert printed[0] == "pairs 30 of 100 · 1/s · 1:10 left"
    assert stream.getvalue().replace("\n", "").isprintable()


def test_a_terminal_shows_the_same_line():
    class Screen(io.StringIO):
        def isatty(self):
            return True

    screen = Screen()
    shown = Work(0, "steps", label="[2/12] train_base").start(screen)
    assert isinstance(shown, Terminal)
    with shown:
        shown.begin(4, 10)
        shown.note("loss 2.5")
        shown.update(3)
        shown.refresh()
    assert "[2/12] train_base · steps 7 of 10 · " in screen.getvalue() and "loss 2.5" in screen.getvalue()
    assert isinstance(Work(0, "steps").start(io.StringIO()), PlainLines)


def test_a_terminal_without_a_width_gets_plain_lines():
    outer, inner = os.openpty()
    with os.fdopen(outer), os.fdopen(inner, "w") as screen:
        assert screen.isatty() and isinstance(Work(9, "steps").start(screen), PlainLines)


def test_the_seconds_after_a_task_are_those_of_the_last_run(tmp_path):
    from pipeline.config import load_config
    from pipeline.runner import Pipeline, Stage, Task

    def write(task, config):
        (task.folder / "a").write_text("a")
        seen.append((task.label, task.seconds_after))

    def make(setting):
        config = load_config(Path("configs/smoke.toml"), [f"runtime.outputs={tmp_path}"])
        stages = [
            Stage(f"{number:02}_part_{number}", 1, lambda _, n=number: [Task(f"{n:02}", write, {"setting": setting})])
            for number in (1, 2, 3)
        ]
        pipeline = Pipeline(config, stages)
        pipeline.planned = stages
        for stage in stages:
            pipeline.run_stage(stage)

    seen = []
    make(1)
    assert seen == [("[1/3] part_1", None), ("[2/3] part_2", None), ("[3/3] part_3", 0.0)]
    seen.clear()
    make(2)
    assert [label for label, _ in seen] == ["[1/3] part_1", "[2/3] part_2", "[3/3] part_3"]
    assert all(0.0 <= seconds < 60.0 for _, seconds in seen)
