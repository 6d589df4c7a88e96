"""Batches of one size: every photograph once, the same order from the same seed, errors that name the file."""

import multiprocessing

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from pipeline.images.augment import Augmenter
from pipeline.images.batch_loader import BatchLoader, load_batches
from pipeline.images.batches import (
    TEMPLATES,
    PlannedBatch,
    assign_buckets,
    plan_evaluation,
    plan_training_epoch,
    template_sizes,
)
from pipeline.images.plan_ahead import PlanAhead

SIZES = [(96, 64), (64, 64), (64, 96)]


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for row in range(12):
        found.append(tmp_path / f"photo{row}.jpg")
        cv2.imwrite(str(found[-1]), rng.integers(0, 255, (80 + row, 90, 3), dtype=np.uint8))
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_go_from_wide_to_tall_and_fit_the_network(name):
    sizes = template_sizes(name)
    ratios = [height / width for width, height in sizes]
    assert ratios == sorted(ratios) and sizes == TEMPLATES[name]


def test_an_explicit_list_of_any_length_is_a_template():
    assert template_sizes([(64, 96), (96, 64)]) == [(96, 64), (64, 96)]
    assert template_sizes([(320, 320)]) == [(320, 320)]


def test_an_unknown_template_and_an_odd_size_are_refused_with_advice():
    with pytest.raises(PipelineError, match="SS2"):
        template_sizes("XL")
    with pytest.raises(PipelineError, match=r"\[224, 160\]"):
        template_sizes([(230, 150)])


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_shapes_that_cameras_make_go_to_the_buckets_of_the_published_thresholds(name):
    sizes = TEMPLATES[name]
    bins = [0.67, 0.77, 1.33, 1.5] if len(sizes) == 5 else [0.77, 1.33]
    common = np.array([9 / 16, 2 / 3, 3 / 4, 1.0, 4 / 3 + 1e-6, 3 / 2 + 1e-6, 16 / 9])
    assert assign_buckets(common, sizes).tolist() == np.digitize(common, bins).tolist()


@pytest.mark.parametrize("count", [2, 3, 9, 33, 40])
def test_with_copies_every_image_keeps_its_size_and_is_augmented_as_in_its_copy(count):
    ratios = np.exp(np.random.default_rng(count).normal(0, 0.4, count))
    sizes_of = []
    for epoch in range(5):
        plan = plan_training_epoch(ratios, SIZES, 4, 1, epoch, copies=2)
        rows = np.concatenate([planned.rows for planned in plan])
        assert sorted(rows.tolist()) == list(range(count))
        assert all(2 <= len(planned.rows) <= 5 and planned.epoch == epoch % 2 for planned in plan)
        sizes_of.append({row: planned.size for planned in plan for row in planned.rows.tolist()})
    assert all(sizes == sizes_of[0] for sizes in sizes_of)
    assert plan_training_epoch(np.zeros(0), SIZES, 4, 1, 0, copies=2) == []


def test_no_images_have_no_buckets_and_no_batches():
    assert len(assign_buckets(np.zeros(0), SIZES)) == 0
    assert plan_training_epoch(np.zeros(0), SIZES, 4, 0, 0) == []
    assert plan_evaluation(np.zeros(0), SIZES, 4) == []


@given(st.lists(st.floats(0.2, 5.0), max_size=60), st.integers(2, 9), st.integers(0, 5), st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_has_every_image_once_and_at_most_one_batch_that_is_not_full(ratios, batch_size, seed, epoch):
    plan = plan_training_epoch(np.array(ratios), SIZES, batch_size, seed, epoch)
    rows = np.concatenate([batch.rows for batch in plan]) if plan else np.zeros(0)
    assert sorted(rows) == list(range(len(ratios)))
    assert sum(len(batch.rows) != batch_size for batch in plan) <= 1
    assert all(len(batch.rows) >= 2 for batch in plan) or len(ratios) == 1
    assert all(batch.size in SIZES and batch.epoch == epoch for batch in plan)


def test_the_number_of_steps_is_the_same_in_every_epoch():
    ratios = np.random.default_rng(0).uniform(0.5, 2.0, 101)
    assert len({len(plan_training_epoch(ratios, SIZES, 8, 1, epoch)) for epoch in range(20)}) == 1


def test_the_order_depends_only_on_seed_and_epoch():
    ratios = np.random.default_rng(0).uniform(0.5, 2.0, 50)

    def order(seed, epoch):
        return [batch.rows.tolist() for batch in plan_training_epoch(ratios, SIZES, 8, seed, epoch)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3) and order(1, 2) != order(2, 2)


def test_images_stay_in_their_bucket_except_for_its_leftovers():
    ratios = np.repeat([0.66, 1.0, 1.5], [21, 34, 13])
    buckets = assign_buckets(ratios, SIZES)
    moved = sum(
        int((buckets[batch.rows] != SIZES.index(batch.size)).sum())
        for batch in plan_training_epoch(ratios, SIZES, 8, 0, 0)
    )
    assert moved == 21 % 8 + (21 % 8 + 34) % 8


def test_evaluation_goes_bucket_by_bucket_in_row_order():
    plan = plan_evaluation(np.array([1.5, 1.0, 0.6, 1.0, 1.0]), SIZES, 2)
    assert [(batch.rows.tolist(), batch.size) for batch in plan] == [
        ([2], (96, 64)),
        ([1, 3], (64, 64)),
        ([4], (64, 64)),
        ([0], (64, 96)),
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_loading_processes_change_neither_order_nor_pixels(paths, workers):
    ratios = np.linspace(0.6, 1.6, len(paths))
    plan = plan_training_epoch(ratios, SIZES, 4, 0, 0)

    def load(count):
        return list(load_batches(paths, plan, Augmenter("middle", 5), count))

    for planned, here, there in zip(plan, load(0), load(workers), strict=True):
        assert here.rows.tolist() == there.rows.tolist() == planned.rows.tolist()
        assert here.images.shape == (len(planned.rows), 3, planned.size[1], planned.size[0])
        assert (here.images == there.images).all()


def test_evaluation_batches_are_not_augmented(paths):
    plan = plan_evaluation(np.ones(len(paths)), SIZES, 4)
    plain = next(load_batches(paths, plan))
    augmented = next(load_batches(paths, plan, Augmenter("middle", 5)))
    assert (plain.images == augmented.images).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_has_become_unreadable_is_named_with_exit_code_3(paths, workers):
    paths[7].write_text("not a photograph")
    with pytest.raises(PipelineError, match=r"photo7\.jpg") as caught:
        list(load_batches(paths, plan_evaluation(np.ones(len(paths)), SIZES, 4), workers=workers))
    assert caught.value.exit_code == 3


class KillsItsProcess:
    """A photograph's path that takes the loading process with it, as the kernel does when memory is short."""

    def __fspath__(self):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_loading_process_is_an_error_with_advice():
    plan = [PlannedBatch(np.array([0]), (64, 64))]
    with pytest.raises(PipelineError, match=r"lower runtime\.workers"):
        list(load_batches([KillsItsProcess()], plan, workers=1))


def test_one_set_of_processes_loads_plan_after_plan_and_ends_with_the_loader(paths):
    plans = [plan_evaluation(np.ones(count), SIZES, 2) for count in (3, 12, 0, 7)]
    expected = [list(load_batches(paths, plan)) for plan in plans]
    processes = []
    with BatchLoader(paths, workers=2) as loader:
        for plan, whole in zip(plans, expected, strict=True):
            for found, other in zip(loader.load(iter(plan)), whole, strict=True):
                assert (found.images == other.images).all() and found.rows.tolist() == other.rows.tolist()
            processes.append({one.pid for one in multiprocessing.active_children()})
    assert len(processes[0]) == 2 and all(found == processes[0] for found in processes)
    assert not multiprocessing.active_children()
    with pytest.raises(ValueError, match="closed"):
        next(loader.load(plans[0]))


def test_a_plan_that_was_not_read_to_its_end_leaves_nothing_to_the_next(paths):
    with BatchLoader(paths, workers=2) as loader:
        first = loader.load(plan_evaluation(np.ones(12), SIZES, 1))
        assert next(first).rows.tolist() == [0]
        second = loader.load([PlannedBatch(np.array([11, 4]), (64, 64))])
        assert [batch.rows.tolist() for batch in second] == [[11, 4]]


class Watched(list):
    """A plan that notes how many of its batches were asked for."""

    asked = 0

    def __iter__(self):
        for planned in super().__iter__():
            self.asked += 1
            yield planned


@pytest.mark.parametrize("workers", [0, 2])
def test_the_plan_that_follows_is_begun_before_the_one_before_it_is_read(paths, workers):
    plans = [Watched(plan_evaluation(np.ones(count), SIZES, 2)) for count in (12, 8, 0, 7, 12)]
    with BatchLoader(paths, workers=workers) as loader:
        for plan, following in zip(plans, [*plans[1:], None], strict=True):
            found = [batch.rows.tolist() for batch in loader.load(plan, following=following)]
            assert not workers or not following or following.asked > 0
            assert found == [planned.rows.tolist() for planned in list(plan)]


def test_a_plan_that_was_begun_but_does_not_follow_is_dropped(paths):
    first, guessed, other = (plan_evaluation(np.ones(count), SIZES, 2) for count in (12, 10, 9))
    with BatchLoader(paths, workers=2) as loader:
        for plan, following in ((first, guessed), (other, guessed), (list(guessed), None), (first, None)):
            found = [batch.rows.tolist() for batch in loader.load(plan, following=following)]
            assert found == [planned.rows.tolist() for planned in plan]
        generator = (planned for planned in other)
        assert len(list(loader.load(generator, following=guessed))) == len(other)


def test_shards_that_follow_each_other_are_planned_ahead_until_one_guess_was_wrong():
    def rows_of(guess):
        return None if guess is None else guess[0].rows.tolist()

    def ahead(rows, wanted):
        plans = PlanAhead(lambda part: [PlannedBatch(part, (32, 32))], np.array(wanted), 4)
        guesses = []
        for part in rows:
            batches, following = plans.plan(np.array(part, np.int64))
            assert batches[0].rows.tolist() == part
            guesses.append(rows_of(following))
        return guesses

    everything, shards = list(range(14)), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13]]
    assert ahead(shards, everything) == [None, shards[2], shards[3], None]
    assert ahead([shards[0], shards[2], shards[3]], everything) == [None, None, None]  # another rank has the second
    assert ahead([shards[0], shards[1], shards[3]], everything) == [None, shards[2], None]
    wanted = [1, 5, 6, 9, 13]
    assert ahead([[1], [5, 6], [9], [13]], wanted) == [None, [9], [13], None]
    assert ahead([[0], [5], [9], [13]], everything) == [None, shards[2], None, None]  # others are taken over


def test_an_error_leaves_no_loading_process_behind(paths):
    paths[7].write_text("not a photograph")
    with pytest.raises(PipelineError) as kept, BatchLoader(paths, workers=2) as loader:
        for _ in loader.load(plan_evaluation(np.ones(12), SIZES, 1)):
            assert len(multiprocessing.active_children()) == 2
    assert kept.traceback and not multiprocessing.active_children()  # although the error still has its frames
