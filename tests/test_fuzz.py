"""Every reader fed with damaged and hostile files: a value or a PipelineError, never another exception, never a hang.

benchmarks/fuzz.py has the readers and feeds each with 100,000 inputs.
"""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import READERS, feed, fuzz, make_input

READER = {name: make() for name, make in READERS.items()}
QUIET = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", READERS)
def test_a_changed_file_gives_a_value_or_a_reason(folder, name):
    @QUIET
    @given(st.randoms(use_true_random=False))
    def read(chance):
        feed(READER[name], make_input(READER[name], chance), folder)

    read()


@pytest.mark.parametrize("name", READERS)
def test_random_bytes_and_texts_give_a_value_or_a_reason(folder, name):
    @QUIET
    @given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def read(data):
        feed(READER[name], data, folder)

    read()


@pytest.mark.parametrize("name", READERS)
def test_the_inputs_are_near_enough_to_valid_files_that_some_are_accepted(folder, name):
    reader, chance = READER[name], random.Random(name)
    assert any(feed(reader, sample, folder) for sample in reader.samples)
    found = {feed(reader, make_input(reader, chance), folder) for _ in range(300)}
    assert found == {True, False}


def test_the_same_seed_gives_the_same_inputs():
    one, other = fuzz("submissions", 200, seed=3), fuzz("submissions", 200, seed=3)
    assert (one.accepted, one.refused, one.kinds) == (other.accepted, other.refused, other.kinds)
    assert one.accepted + one.refused == 200


def test_what_is_neither_a_value_nor_a_reason_is_a_failure(monkeypatch):
    monkeypatch.setitem(READERS, "broken", lambda: READER["tables"].__class__(lambda data, folder: 1 // 0, (b"x",)))
    found = fuzz("broken", 5, seed=0)
    assert sum(found.kinds.values()) == 5 and "ZeroDivisionError" in next(iter(found.failures))
