"""The tables of --status and --dry-run."""

from pipeline.status import ArtifactStatus, format_plan, format_status

FRESH = ArtifactStatus("01_prepare_data", [], 2.5, 300_000)
STALE = ArtifactStatus("05_extract_global/cnn/test", ["setting scales changed"], 125.0, 2_000_000_000)
NEW = ArtifactStatus("11_write_submissions", ["not built yet"], None, None)


def test_a_line_says_state_seconds_size_and_reasons():
    lines = format_status([FRESH, STALE, NEW]).splitlines()
    assert [line.split() for line in lines] == [
        ["01_prepare_data", "2.5", "s", "0.3", "MB", "fresh"],
        ["05_extract_global/cnn/test", "125.0", "s", "2,000.0", "MB", "stale:", "setting", "scales", "changed"],
        ["11_write_submissions", "-", "s", "-", "MB", "stale:", "not", "built", "yet"],
    ]
    assert len({line.index(" s  ") for line in lines}) == 1  # columns
    assert format_status([]) == ""


def test_a_plan_has_what_would_be_made_and_what_that_took_the_last_time():
    plan = format_plan([FRESH, STALE, NEW]).splitlines()
    assert len(plan) == 5 and not any("01_prepare_data" in line for line in plan)
    assert plan[2:] == [
        "2 of 3 artifacts would be made",
        "the last time, 1 of them took 2 min and 2,000 MB of disk",
        "1 were never made here: nothing tells how long they take",
    ]
    assert format_plan([FRESH]) == format_plan([]) == "everything is fresh: nothing would run"
