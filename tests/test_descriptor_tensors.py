"""Storage formats of descriptors on a device against those of arrays."""

import numpy as np
import pytest
import torch

from pipeline.features.descriptor_tensors import decode_tensor, encode_tensor
from pipeline.features.local_store import ENCODE, decode_descriptors, encode_descriptors


def some_descriptors(rng, count, width):
    vectors = rng.standard_normal((count, width)).astype(np.float32) * rng.uniform(1e-3, 1e3, (count, 1))
    vectors[rng.random((count, width)) < 0.1] = 0
    vectors[: count // 4] = 0
    return vectors.astype(np.float32)


@pytest.mark.parametrize("storage", ENCODE)
@pytest.mark.parametrize(("count", "width"), [(0, 128), (1, 8), (40, 128), (7, 64)])
def test_a_device_decodes_to_the_bytes_of_the_store(storage, count, width):
    stored = encode_descriptors(some_descriptors(np.random.default_rng(count), count, width), storage)
    found = decode_tensor(torch.from_numpy(stored))
    assert found.numpy().tobytes() == decode_descriptors(stored).tobytes() and found.shape == (count, width)
    batches = decode_tensor(torch.from_numpy(np.stack([stored, stored])))
    assert batches[1].numpy().tobytes() == found.numpy().tobytes()


@pytest.mark.parametrize("storage", ["int8", "bits"])
@pytest.mark.parametrize(("count", "width"), [(0, 128), (1, 8), (40, 128)])
def test_a_device_encodes_to_the_bytes_of_the_store(storage, count, width):
    descriptors = some_descriptors(np.random.default_rng(count), count, width)
    found = encode_tensor(torch.from_numpy(descriptors), storage).numpy()
    expected = encode_descriptors(descriptors, storage)
    assert found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def test_a_device_encodes_halves_within_their_last_bit():
    descriptors = some_descriptors(np.random.default_rng(1), 50, 128)
    found, expected = (
        encode_tensor(torch.from_numpy(descriptors), "float16"),
        encode_descriptors(descriptors, "float16"),
    )
    assert found.dtype == torch.float16
    np.testing.assert_array_max_ulp(found.numpy(), expected, 1)
    unit = encode_tensor(torch.from_numpy(descriptors[20:]), "float32")
    np.testing.assert_allclose(unit.norm(dim=1), 1, rtol=1e-6)
