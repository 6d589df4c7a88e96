"""Local features: what is packed comes back by row, in every storage format within its error."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.features.local_store import (
    DIMENSIONS,
    ENCODE,
    NO_FEATURES,
    LocalFeatures,
    LocalStore,
    decode_descriptors,
    encode_descriptors,
    pack,
)
from pipeline.features.store import write_ragged_in_shards

STORAGES = sorted(ENCODE)
DTYPES = {"float16": np.float16, "int8": np.int8, "bits": np.uint8}
LENGTH_ERROR = {"float16": 2**-11, "int8": 1e-6, "bits": 1e-6}


def unit_vectors(count, seed=0, dimensions=DIMENSIONS):
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def image(count, seed=0):
    random = np.random.default_rng(seed)
    points = random.uniform(0, 800, (count, 2)).astype(np.float32)
    scales, attention = (random.random(count).astype(np.float32) for _ in range(2))
    return LocalFeatures(points, scales, attention, unit_vectors(count, seed))


def write(folder, features, storage, shard_rows=3):
    write_ragged_in_shards(
        folder,
        folder / "scratch",
        len(features),
        shard_rows,
        lambda start, stop: pack(features[start:stop], storage),
    )
    return LocalStore(folder)


def cosines(first, second):
    first, second = first.astype(np.float64), second.astype(np.float64)
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("counts", [[], [0], [1], [0, 0, 0, 0], [0, 0, 0, 5], [5, 0, 1, 0, 0, 0, 0, 1000, 2, 0]])
def test_every_row_comes_back(tmp_path, storage, counts):
    features = [image(count, seed) for seed, count in enumerate(counts)]
    store = write(tmp_path, features, storage)
    assert len(store) == len(counts) and store.counts.tolist() == counts
    for row, expected in enumerate(features):
        found = store[row]
        for name in ("points", "scales", "attention"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
        again = decode_descriptors(encode_descriptors(expected.descriptors, storage))
        assert np.array_equal(found.descriptors, again)
        assert {array.dtype for array in found} == {np.dtype(np.float32)}
        assert found.points.shape == (counts[row], 2) and found.descriptors.shape == (counts[row], DIMENSIONS)
        assert store.stored_descriptors(row).dtype == DTYPES[storage]


@pytest.mark.parametrize("seed", range(5))
def test_random_numbers_of_keypoints_in_random_shards_come_back(tmp_path, seed):
    random = np.random.default_rng(seed)
    features = [image(int(count), row) for row, count in enumerate(random.integers(-20, 40, 17).clip(0))]
    store = write(tmp_path, features, "float16", int(random.integers(1, 20)))
    for row, expected in enumerate(features):
        assert np.array_equal(store[row].points, expected.points)
        assert np.abs(store[row].descriptors - expected.descriptors).max(initial=0) < 2**-11


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("dimensions", [8, 40, 128])
def test_decoded_descriptors_are_unit_vectors(storage, count, dimensions):
    vectors = unit_vectors(count, dimensions=dimensions)
    decoded = decode_descriptors(encode_descriptors(vectors, storage))
    assert decoded.shape == vectors.shape and decoded.dtype == np.float32
    lengths = np.linalg.norm(decoded.astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max(initial=0) < LENGTH_ERROR[storage]


def test_float16_turns_a_vector_by_less_than_its_rounding():
    vectors = unit_vectors(5000)
    assert cosines(vectors, decode_descriptors(encode_descriptors(vectors, "float16"))).min() > 1 - 2**-22


def test_int8_turns_a_vector_by_no_more_than_half_a_step_in_every_dimension():
    vectors = unit_vectors(5000)
    vectors[:100, 0] = np.linspace(0, 3, 100)  # some with one great component, which makes the steps coarse
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    turned = cosines(vectors, decode_descriptors(encode_descriptors(vectors, "int8")))
    farthest = np.sqrt(DIMENSIONS) * np.abs(vectors).max(axis=1) / 254
    assert (turned > np.sqrt(1 - farthest**2)).all()
    assert turned[100:].min() > 0.9999


def test_bits_keep_every_sign():
    vectors = unit_vectors(500)
    decoded = decode_descriptors(encode_descriptors(vectors, "bits"))
    assert np.array_equal(decoded > 0, vectors >= 0)
    assert np.allclose(np.abs(decoded), DIMENSIONS**-0.5)
    assert np.allclose(cosines(vectors, decoded).mean(), np.sqrt(2 / np.pi), atol=0.01)  # of a Gaussian vector


def test_similarities_survive_in_the_order_of_the_bytes_spent():
    first, second = unit_vectors(2000, 1), unit_vectors(2000, 2)
    second = first + 0.8 * second
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    exact = cosines(first, second)
    worst = {}
    for storage in STORAGES:
        pair = (decode_descriptors(encode_descriptors(vectors, storage)) for vectors in (first, second))
        worst[storage] = np.abs((next(pair) * next(pair)).sum(axis=1) - exact).max()
    assert worst["float16"] < 1e-3 and worst["int8"] < 5e-3 and worst["bits"] < 0.5


def test_zeros_stay_zeros_except_in_bits_where_they_count_as_positive():
    zeros = np.array([[0.0] * 8, [-0.0] * 8], np.float32)
    for storage in ("float16", "int8"):
        assert not decode_descriptors(encode_descriptors(zeros, storage)).any()
    assert np.allclose(decode_descriptors(encode_descriptors(zeros, "bits")), 8**-0.5)


@pytest.mark.parametrize("storage", STORAGES)
def test_descriptors_that_are_not_finite_are_refused(storage):
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            encode_descriptors(np.full((1, 8), value, np.float32), storage)


def test_unknown_formats_are_refused():
    with pytest.raises(ValueError, match="int4; known: float16"):
        encode_descriptors(unit_vectors(1), "int4")
    with pytest.raises(ValueError, match="float64"):
        decode_descriptors(np.zeros((1, 8)))
    with pytest.raises(ValueError, match="12 dimensions"):
        encode_descriptors(unit_vectors(1, dimensions=12), "bits")


def test_encoding_does_not_change_its_argument():
    vectors = 2 * unit_vectors(10)
    before = vectors.copy()
    for storage in STORAGES:
        encode_descriptors(vectors, storage)
    assert np.array_equal(vectors, before)


def test_an_image_whose_arrays_disagree_is_refused():
    with pytest.raises(ValueError, match=r"image 1 has \[3, 2, 3, 3\]"):
        pack([NO_FEATURES, image(3)._replace(scales=np.zeros(2, np.float32))], "int8")


@pytest.mark.parametrize("row", [-1, 3, 1000])
def test_rows_outside_the_split_are_refused(tmp_path, row):
    store = write(tmp_path, [image(2)] * 3, "int8")
    with pytest.raises(IndexError, match=f"row {row} of 3"):
        store[row]


def test_what_is_read_can_be_written_to_without_touching_the_store(tmp_path):
    store = write(tmp_path, [image(2)], "float16")
    for array in store[0]:
        array[:] = 7
    assert np.array_equal(store[0].points, image(2).points)


@pytest.mark.parametrize("storage", STORAGES)
def test_many_threads_read_what_one_thread_reads(tmp_path, storage):
    store = write(tmp_path, [image(seed % 40, seed) for seed in range(60)], storage)
    rows = np.random.default_rng(0).integers(0, 60, 1000).tolist()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(store.__getitem__, rows))
    finally:
        sys.setswitchinterval(interval)
    for row, features in zip(rows, found, strict=True):
        assert all(np.array_equal(mine, theirs) for mine, theirs in zip(store[row], features, strict=True))


def test_a_store_goes_to_another_process_as_its_folder(tmp_path):
    store = write(tmp_path, [image(50, seed) for seed in range(10)], "float16")
    sent = pickle.dumps(store)
    assert len(sent) < 500
    assert np.array_equal(pickle.loads(sent)[3].descriptors, store[3].descriptors)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("offsets", np.array([0, 2, 5]), "6 points where offsets end at 5"),
        ("offsets", np.array([0, 7, 6]), "rise"),
        ("offsets", np.array([1, 2, 6]), "rise"),
        ("offsets", np.zeros(0, np.int64), "rise"),
        ("offsets", np.array([0.0, 3, 6]), "float64"),
        ("scales", np.zeros(5, np.float32), "5 scales where offsets end at 6"),
        ("points", np.zeros(6, np.float32), "points has dtype"),
        ("attention", np.zeros(6), "attention has dtype float64"),
        ("descriptors", np.zeros((6, 128), np.int32), "descriptors has dtype int32"),
        ("descriptors", None, "cannot be read"),
    ],
)
def test_a_folder_that_contradicts_itself_is_refused_with_the_file_named(tmp_path, name, value, complaint):
    write(tmp_path, [image(2), image(4)], "int8")
    path = tmp_path / f"{name}.npy"
    np.save(path, value) if value is not None else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PipelineError, match=complaint) as error:
        LocalStore(tmp_path)
    assert error.value.where == path or name == "offsets"


def test_a_missing_file_is_told_in_words(tmp_path):
    write(tmp_path, [image(2)], "int8")
    (tmp_path / "scales.npy").unlink()
    with pytest.raises(PipelineError, match="scales cannot be read"):
        LocalStore(tmp_path)
