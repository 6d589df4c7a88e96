"""One thread a test process: two of them share two cores, and the last bits of training depend on the threads."""

import os
import signal

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, here and in the processes that tests start


@pytest.fixture(autouse=True)
def signals_stay_pytests():
    """The runner takes over SIGINT and SIGTERM: give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


LONGEST = ("test_stages.py", "test_kills.py", "test_resources.py")  # first, so that no process ends alone with one


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
