"""One small network of each family, with random weights, through all that a backbone is used for."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from families import FAMILIES

from pipeline.errors import PipelineError
from pipeline.features.global_descriptors import InputImages, extract_descriptors
from pipeline.features.local_batches import LocalExtractor, LocalNetwork
from pipeline.features.local_features import extract_local
from pipeline.features.pyramid_cells import ImageRegions
from pipeline.network.backbone import Backbone, ShallowBackbone, build_backbone
from pipeline.network.backbones.efficientnet_lite import LITE
from pipeline.network.checkpoint import load_network, save_network
from pipeline.network.folding import fold_for_evaluation
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.onnx_graphs import write_graphs
from pipeline.network.weights import read_weights
from pipeline.settings import ExtractSettings, LocalSettings, ModelSettings, PhaseSettings

CPU = torch.device("cpu")
TRANSFORMERS = [name for name in FAMILIES.values() if "vit_" in name]
SIZES = [(96, 64), (64, 96), (160, 128)]  # (width, height): three sizes, three aspect ratios


def build(name, **settings):
    model = ModelSettings(backbone=name, weights="none", dims=16, **settings)
    network = build_landmark_network(build_embedding(model, 1), PhaseSettings(), np.array([3, 7, 9]), 1)
    return network.eval()


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=FAMILIES.keys())
def network(request):
    return build(request.param)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    paths = [folder / f"{at}.png" for at in range(len(SIZES))]
    for path, (width, height) in zip(paths, SIZES, strict=True):
        cv2.imwrite(str(path), random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return paths


def images(*size, count=2):
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_network_trains_a_step_and_comes_back_from_disk_as_it_was(network, tmp_path):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = network.train()(images(64, 96, count=3), torch.tensor([0, 2, 1]))
    (losses.head + losses.local).backward()
    assert all(value.grad is not None for value in network.parameters())  # nothing in it is without use
    optimiser.step()
    network.eval().zero_grad()
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert any(".backbone." in name for name in changed) and losses.head.isfinite() and losses.local.isfinite()
    save_network(tmp_path, network)
    again = load_network(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.embedding(images(64, 96)), network.embedding(images(64, 96)))
    assert again.embedding.backbone.cells == network.embedding.backbone.cells


def test_global_and_local_features_come_from_images_of_any_size(network, photographs):
    settings = ExtractSettings(max_side_px=160, scales=[1.0], precision="float32")
    inputs = InputImages(photographs, np.array([height / width for width, height in SIZES]), sizes=np.array(SIZES))
    folded = fold_for_evaluation(network.embedding, CPU, "float32")
    descriptors = extract_descriptors(folded, inputs, settings, CPU)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1.0, atol=1e-6)
    for at in range(len(SIZES)):
        image = torch.from_numpy(cv2.imread(str(photographs[at]))[None, ..., ::-1].copy()).permute(0, 3, 1, 2)
        with torch.no_grad():
            alone = torch.nn.functional.normalize(network.embedding(image))[0].numpy()
        np.testing.assert_allclose(descriptors[at], alone, atol=1e-4)
    regions = ImageRegions(photographs, np.array(SIZES))
    local = LocalSettings(max_side_px=160, scales=[0.5, 1.0], precision="float32")
    features = extract_local(LocalExtractor(LocalNetwork(network), local, CPU), regions, -1.0)
    stride = network.embedding.backbone.cells.stride_px
    for found, (width, height) in zip(features, SIZES, strict=True):
        assert len(found.points) > (width // stride) * (height // stride)  # of two scales
        assert (found.points >= -1).all() and (found.points <= [width + 1, height + 1]).all()


@torch.no_grad()
def test_the_layers_up_to_the_shallow_map_give_the_same_map(network):
    backbone = network.embedding.backbone
    assert torch.equal(ShallowBackbone(backbone)(images(64, 96)), backbone(images(64, 96))["shallow"])


@pytest.mark.parametrize(("name", "cells"), {
    "timm/resnet18": 24, "timm/legacy_seresnext26_32x4d": 24, "timm/seresnext26t_32x4d": 24, "timm/convnext_atto": 52,
    **dict.fromkeys(TRANSFORMERS, 4),
}.items())  # fmt: skip
def test_keypoints_are_where_the_gradients_of_their_cells_are(name, cells, monkeypatch):
    """The pixels that a cell depends on, with all that sees everything (attention, excitation) switched off."""
    blind = (timm.models.senet.SEModule, timm.layers.SEModule, timm.models.vision_transformer.Attention)
    for kind in (*blind, timm.models.eva.EvaAttention):
        monkeypatch.setattr(kind, "forward", lambda self, x, **_: x)
    backbone = Backbone(name).eval()
    for parameter, value in backbone.named_parameters():
        if value.ndim == 1 and not parameter.endswith("bias"):
            torch.nn.init.ones_(value)  # new networks start with branches that add next to nothing
    stride = backbone.strides["shallow"]
    pixels = (255 * torch.rand(1, 3, cells * stride, (cells + 2) * stride)).requires_grad_()
    row, column = cells // 2, cells // 2 + 1
    ShallowBackbone(backbone)(pixels)[0, :, row, column].square().sum().backward()
    felt = pixels.grad.abs().sum((0, 1))
    for axis, cell in ((1, row), (0, column)):
        touched = torch.nonzero(felt.sum(axis)).flatten()
        assert (touched[0] + touched[-1]).item() / 2 == stride * cell + backbone.cells.centre_px


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_at_its_own_size_a_transformer_gives_the_tokens_that_timm_gives(name):
    backbone = build_backbone(name, "none", class_token=name != "timm/vit_tiny_patch16_224").eval()
    network = backbone.body.network
    side = 8 * backbone.strides["deep"]
    pixels = images(side, side, count=1)
    tokens = network.forward_features(backbone.normalise(pixels))
    deep = backbone(pixels)["deep"].flatten(2).transpose(1, 2)
    channels = tokens.shape[2]
    torch.testing.assert_close(deep[..., :channels], tokens[:, network.num_prefix_tokens :])
    if backbone.class_token:
        assert deep.shape[2] == 2 * channels == backbone.channels["deep"]
        torch.testing.assert_close(deep[..., channels:], tokens[:, :1].expand(-1, 64, -1))


@torch.no_grad()
def test_images_that_are_no_whole_patches_are_resized_to_the_nearest():
    backbone = Backbone("timm/vit_small_patch14_reg4_dinov2").eval()
    assert backbone(images(64, 96))["deep"].shape[2:] == (5, 7)  # 70 x 98 px
    assert backbone(images(224, 32))["deep"].shape[2:] == (16, 2)
    assert backbone.side_multiple_px == 14 and backbone.min_side_px == 28
    flat = torch.full((1, 3, 64, 96), 77.0)
    torch.testing.assert_close(backbone.normalise(flat), ((77.0 - backbone.mean) / backbone.std).expand(1, 3, 70, 98))


def test_the_input_convention_is_that_of_the_weights():
    means = {
        "timm/vit_tiny_patch16_224": [0.5, 0.5, 0.5], "timm/vit_xsmall_patch16_clip_224": [0.4815, 0.4578, 0.4082],
        "timm/convnext_atto": [0.485, 0.456, 0.406],
    }  # fmt: skip
    for name, mean in means.items():
        torch.testing.assert_close(Backbone(name).mean.flatten() / 255, torch.tensor(mean), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["timm/hiera_tiny_224", "timm/vit_tiny_patch17", "resnet1001"])
def test_a_network_that_does_not_suit_is_refused_with_what_to_do(name):
    expected = {"timm/hiera_tiny_224": "any size", "timm/vit_tiny_patch17": "similar: timm/vit_", "resnet1001": "timm/"}
    with pytest.raises(PipelineError, match=expected[name]):
        build_backbone(name, "none")


def test_a_class_token_is_refused_where_there_is_none():
    for name in ("resnet18", "timm/resnet18"):
        with pytest.raises(PipelineError, match="no class token"):
            build_backbone(name, "none", class_token=True)


def test_one_graph_of_a_transformer_for_all_sizes_is_refused_and_of_convnext_is_exact(tmp_path):
    with pytest.raises(PipelineError, match="position embeddings"):
        write_graphs(tmp_path, build("timm/vit_tiny_patch16_224"))
    pytest.importorskip("onnxruntime")
    assert max(write_graphs(tmp_path, build("timm/convnext_atto")).values()) < 1e-4


# ---- Weights --------------------------------------------------------------------------------------------------------


def save_timm(folder, name):
    """The files that the Hub has of a model of timm, with its classifier; the model."""
    model = timm.create_model(name, num_classes=5)
    folder.mkdir(exist_ok=True)
    safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": name}))
    return model


@pytest.mark.parametrize("kind", ["file", "folder", "state dict", "shards"])
def test_weights_of_timm_are_loaded_from_disk(kind, tmp_path):
    model = save_timm(tmp_path / "hub", "vit_tiny_patch16_224")
    path, state = tmp_path / "hub", model.state_dict()
    if kind == "file":
        path /= "model.safetensors"
    if kind == "state dict":
        path = tmp_path / "weights.pth"
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, path)
    if kind == "shards":
        (path / "model.safetensors").unlink()
        names = sorted(state)
        for at, part in enumerate((names[::2], names[1::2]), 1):
            tensors = {name: state[name] for name in part}
            safetensors.torch.save_file(tensors, path / f"model-0000{at}-of-00002.safetensors")
    backbone = build_backbone("timm/vit_tiny_patch16_224", str(path)).eval()
    found = backbone.body.network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.items())


def test_a_wrong_pairing_names_both_shapes_and_the_backbone_to_set(tmp_path):
    save_timm(tmp_path / "hub", "vit_tiny_patch16_224")
    for backbone in ("timm/vit_xsmall_patch16_clip_224", "timm/resnet18", "resnet18"):
        with pytest.raises(PipelineError, match=r"backbone = 'timm/vit_tiny_patch16_224'") as refusal:
            build_backbone(backbone, str(tmp_path / "hub"))
        assert str(refusal.value).count("of shape (") + str(refusal.value).count("has (") == 2
    (tmp_path / "hub/config.json").write_text(json.dumps({"model_type": "dinov2"}))
    with pytest.raises(PipelineError, match="another library"):
        build_backbone("timm/resnet18", str(tmp_path / "hub/model.safetensors"))
    shutil.rmtree(tmp_path / "hub")
    (tmp_path / "hub").mkdir()
    with pytest.raises(PipelineError, match="no file of weights is in this folder"):
        build_backbone("timm/resnet18", str(tmp_path / "hub"))


def test_position_embeddings_of_another_size_are_resampled(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", img_size=96)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "small.safetensors")
    backbone = build_backbone("timm/vit_tiny_patch16_224", str(tmp_path / "small.safetensors"))
    assert backbone.body.network.pos_embed.shape == (1, 197, 192)


def test_published_weights_that_cannot_be_downloaded_say_where_to_get_them(monkeypatch):
    def no_connection(*_args, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_hf", no_connection)
    monkeypatch.setattr(timm.models._builder, "load_state_dict_from_url", no_connection)
    with pytest.raises(PipelineError, match=r"no route to host\n.*convnext_atto.*\n.*set weights to"):
        build_backbone("timm/convnext_atto", "pretrained")


PYCLS = {"conv1": "f.a", "bn1": "f.a_bn", "conv2": "f.b", "bn2": "f.b_bn", "conv3": "f.c", "bn3": "f.c_bn"}


@pytest.mark.parametrize("prefix", ["encoder_q.", "globalmodel."])
def test_resnets_of_cvnet_and_of_delg_in_pytorch_are_known_by_their_names(prefix, tmp_path):
    model = timm.create_model("resnet26", num_classes=0)
    layers = PYCLS | {"downsample.0": "proj", "downsample.1": "bn"}
    renamed = {}
    for name, value in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer.startswith("layer"):
            stage, block, rest = layer.removeprefix("layer").split(".", 2)
            layer = f"s{stage}.b{int(block) + 1}.{layers[rest]}"
        else:
            layer = {"conv1": "stem.conv", "bn1": "stem.bn"}[layer]
        renamed[f"{prefix}{layer}.{kind}"] = value
    renamed |= {"localmodel.conv1.weight": torch.zeros(1), f"{prefix}head.fc.weight": torch.zeros(1)}
    torch.save({"model_state": renamed, "epoch": 3}, tmp_path / "R26.pyth")
    (root,) = build_backbone("timm/resnet26", str(tmp_path / "R26.pyth")).root
    state = root.state_dict()
    assert torch.equal(state.pop("conv1.weight"), model.conv1.weight.flip(1))  # their images are BGR
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize("name", ["resnet18", "timm/legacy_seresnext26_32x4d"])
def test_the_winners_of_2019_numbered_the_children_of_their_networks(name, tmp_path):
    (root,) = build_backbone(name, "none").root
    children = ["layer0", "layer1", "layer2", "layer3", "layer4"]
    children = children if "seresnext" in name else ["conv1", "bn1", "relu", "maxpool", *children[1:]]
    numbered = {}
    for key, value in root.state_dict().items():
        child, _, rest = key.partition(".")
        numbered[f"backbone.{children.index(child)}.{rest}"] = value
    torch.save({"state_dict": numbered | {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "ep5.pth")
    (again,) = build_backbone(name, str(tmp_path / "ep5.pth")).root
    assert all(torch.equal(value, root.state_dict()[key]) for key, value in again.state_dict().items())


# What efficientnet-lite-pytorch 0.1.0 made of the packaged weights: channels of a shallow cell, norms of both maps.
LITE_MAPS = {
    "efficientnet_lite0": ([5.77499, 5.5439, 2.75663], 360.88309, 154.30080),
    "efficientnet_lite1": ([-6.95879, 11.69519, -1.08924], 395.51965, 160.90149),
    "efficientnet_lite2": ([-2.67299, 1.03334, -3.16414], 385.66415, 158.05042),
}


@pytest.mark.parametrize("name", LITE_MAPS)
@torch.no_grad()
def test_packaged_weights_give_the_maps_that_their_own_library_gave(name):
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    image = torch.stack([(x * 7 + y * 3) % 256, (x * y) % 256, (x * x + 5 * y) % 256])[None]
    maps = build_backbone(name).eval()(image)
    cell, shallow, deep = LITE_MAPS[name]
    assert maps["shallow"][0, :3, 1, 2].tolist() == pytest.approx(cell, abs=1e-4)
    assert maps["shallow"].norm().item() == pytest.approx(shallow, rel=1e-5)
    assert maps["deep"].norm().item() == pytest.approx(deep, rel=1e-5)


def test_a_network_saved_before_timm_made_efficientnet_lites_still_loads(tmp_path):
    network = build_landmark_network(
        build_embedding(ModelSettings(backbone="efficientnet_lite0", dims=8), 1), PhaseSettings(), np.arange(2), 1
    ).eval()
    save_network(tmp_path, network)
    packaged, start = read_weights(Path(LITE["efficientnet_lite0"])), "embedding.backbone.body.network."
    state = {key: value for key, value in network.state_dict().items() if not key.startswith(start)}
    state |= {start + key: value.contiguous() for key, value in packaged.items() if not key.startswith("_fc.")}
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    with torch.no_grad():
        found = load_network(tmp_path).embedding(images(64, 96))
        assert torch.equal(found, network.embedding(images(64, 96)))
