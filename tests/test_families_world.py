"""One small network of each family, with random weights, through every stage."""

import json
from pathlib import Path

import pandas as pd
from command import run
from families import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
ASKED = [name for family, name in FAMILIES.items() if family != "DINOv3"]  # to save seconds
SMALL = {"landmarks": 4, "train_images": 16, "index_images": 8, "test_images": 6}  # of the world


def test_all_families_go_through_the_smoke_world_together(tmp_path):
    """As an ensemble: every stage from the world to the report, local features by patches of 14 pixels."""
    text = (ROOT / "configs/smoke.toml").read_text()
    start, end = text.index("[models.cnn]"), text.index("[extract]")
    model = text[start:end].replace("checkpoint_steps = 1\n", "").replace("batch_size = 16", "batch_size = 12")
    model = model.replace("dims = 64", "dims = 16")
    models = []
    for at, name in enumerate(ASKED):
        more = "class_token = true\n" if "dinov2" in name else f"local = {str(at == 0).lower()}\n"
        one = model.replace('backbone = "resnet18"\n', f'backbone = "{name}"\n{more}')
        models.append(one.replace("models.cnn", f"models.m{at}"))
    (tmp_path / "families.toml").write_text(text[:start] + "".join(models) + text[end:])
    outputs = tmp_path / "out"
    sizes = [f"demo.{name}={count}" for name, count in SMALL.items()]
    sizes += [f"models.m{at}.final.epochs=0" for at in range(len(ASKED))]
    sizes += ["clean.source=none", "local.scales=[1.0, 2.0]"]
    given = [f"data.root={tmp_path / 'world'}", f"runtime.outputs={outputs}", "local.model=m4", "runtime.workers=0"]
    assert run("--config", tmp_path / "families.toml", *given, *sizes) == 0
    metrics = json.loads((outputs / "families/12_evaluate/metrics.json").read_text())
    assert metrics["retrieval"]["recipe"][-1]["map_at_100"] > 0.0
    pairs = pd.read_parquet(outputs / "families/08_verify_matches/test_index/pairs.parquet")
    assert len(pairs) and pairs["matches"].max() > 4
