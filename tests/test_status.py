"""The tables of --status and --dry-run."""

from pipeline.status import ArtifactStatus, format_plan, format_status

FRESH = ArtifactStatus("01_prepare_data", [], 2.5, 300_000)
STALE = ArtifactStatus("05_extract_global/cnn/test", ["setting scales changed"], 125.0, 2_000_000_000, 1_500_000_000)
NEW = ArtifactStatus("11_write_submissions", ["not built yet"], None, None)


def test_a_line_says_state_seconds_size_and_reasons():
    lines = format_status([FRESH, STALE, NEW]).splitlines()
    assert [line.split() for line in lines] == [
        ["artifact", "seconds", "disk", "MB", "memory", "MB", "state"],
        ["01_prepare_data", "2.5", "0.3", "-", "fresh"],
        ["05_extract_global/cnn/test", "125.0", "2,000.0", "1,500.0", "stale:", "setting", "scales", "changed"],
        ["11_write_submissions", "-", "-", "-", "stale:", "not", "built", "yet"],
    ]
    assert [line.index(state) for line, state in zip(lines, ("state", "fresh", "stale", "stale"), strict=True)] == [
        lines[0].index("state")
    ] * 4
    assert format_status([]) == ""


def test_a_plan_has_what_would_be_made_and_what_that_took_the_last_time():
    plan = format_plan([FRESH, STALE, NEW]).splitlines()
    assert len(plan) == 6 and not any("01_prepare_data" in line for line in plan)
    assert plan[3:] == [
        "2 of 3 artifacts would be made",
        "the last time, 1 of them took 2 min, 2,000 MB of disk, and at most 1,500 MB of memory beside loader processes",
        "1 were never made here: nothing tells how long they take; --rehearse tries the settings",
    ]
    assert format_plan([FRESH]) == format_plan([]) == "everything is fresh: nothing would run"
