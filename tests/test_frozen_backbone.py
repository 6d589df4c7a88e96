"""A backbone that is not trained: its maps, and that the next batch is begun before one is used."""

import numpy as np
import pytest
import torch

from pipeline.images.loaded_batch import LoadedBatch
from pipeline.network.backbone import Backbone
from pipeline.network.even_batches import images_at_once
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.frozen_backbone import FrozenBackbone

CPU = torch.device("cpu")
ANY = np.random.default_rng(0)
HEIGHT, WIDTH = 256, 192  # four of them go together


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Backbone("mobilenet_v3_large").eval()


def load_batches_of(*counts):
    for count in counts:
        images = torch.from_numpy(ANY.integers(0, 256, (count, 3, HEIGHT, WIDTH), np.uint8))
        yield LoadedBatch(images, torch.arange(count), ((count, "it is damaged"),))


@pytest.mark.parametrize("counts", [(), (1,), (9, 4), (2, 0, 7), (0,)])
def test_batches_get_the_maps_of_the_folded_backbone_in_their_order(backbone, counts):
    batches = list(load_batches_of(*counts))
    folded = fold_for_evaluation(backbone, CPU, "float32")
    with FrozenBackbone(backbone, CPU, "float32") as frozen:
        found = list(frozen.run_ahead(iter(batches)))
    assert [one.bad for one in found] == [one.bad for one in batches]
    for one, batch in zip(found, batches, strict=True):
        assert torch.equal(one.rows, batch.rows)
        assert set(one.maps) == ({"shallow", "deep"} if len(batch.rows) else set())
        with torch.no_grad():
            wanted = [folded(part) for part in batch.images.split(images_at_once(HEIGHT, WIDTH)) if len(part)]
        for name, maps in one.maps.items():
            torch.testing.assert_close(maps, torch.cat([part[name] for part in wanted]))
            assert not maps.requires_grad


def test_the_next_batch_is_begun_before_one_is_used(backbone, monkeypatch):
    begun, real = [], FrozenBackbone._begin
    monkeypatch.setattr(FrozenBackbone, "_begin", lambda self, images: begun.append(len(images)) or real(self, images))
    with FrozenBackbone(backbone, CPU, "float32") as frozen:
        seen = [(len(batch.rows), list(begun)) for batch in frozen.run_ahead(load_batches_of(1, 2, 3))]
    assert seen == [(1, [1, 2]), (2, [1, 2, 3]), (3, [1, 2, 3])]
