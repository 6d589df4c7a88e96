"""What a search reads of a split: joined, or whitened by what was fitted on train; and whole runs with whitening."""

import numpy as np
import pytest
from tasks import RecordedTask
from test_stages import ROOT, run

from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.features.ensemble import JoinedDescriptors
from pipeline.features.whitened import SHARD_ROWS, write_whitened, write_whitening
from pipeline.ranking.evidence import DescriptorPair
from pipeline.task_context import TaskContext
from pipeline.tasks.evidence import read_evidence
from pipeline.tasks.inputs import descriptor_references, open_descriptors, open_joined

SPLITS = {"train": 60, "index": 30, "test": 7}


class PlantedRun(TaskContext):
    """A run whose artifacts a test writes."""

    def input(self, reference):
        return self.folder / reference.replace(":", "/")


@pytest.fixture
def described(tmp_path):
    """(a function that configures two models, whitened to so many components, and their planted run)."""
    rng = np.random.default_rng(0)
    for split, rows in SPLITS.items():
        for name, dims in (("a", 8), ("b", 4)):
            vectors = rng.normal(size=(rows, dims)) * np.arange(1, dims + 1) + 1
            folder = tmp_path / "05_extract_global" / name / split
            folder.mkdir(parents=True)
            np.save(folder / "descriptors.npy", (vectors / np.linalg.norm(vectors, axis=1)[:, None]).astype(np.float32))
    (tmp_path / "two.toml").write_text("[models.a]\ndims = 8\n[models.b]\ndims = 4\nweight = 0.5\n")

    def configure(dims):
        return load_config(tmp_path / "two.toml", [f"search.whiten_dims={dims}"])

    return configure, PlantedRun(tmp_path)


def whiten_run(config, planted):
    find = planted.input
    whitening, train = find("06_build_knn/whitening"), open_joined(planted, config, "train")
    whitening.mkdir(parents=True)
    write_whitening(whitening, train, config.search)
    for split in SPLITS:
        task = RecordedTask(find(f"06_build_knn/whitened/{split}"))
        sources = [find(f"05_extract_global/{name}/{split}") for name in "ab"]
        write_whitened(task, whitening, open_joined(planted, config, split), sources)


def naive_whitening(train, vectors, dims, power):
    """By the singular values of the centred train vectors, in float64."""
    mean = train.mean(axis=0)
    _, values, axes = np.linalg.svd(train - mean, full_matrices=False)
    scale = (values[:dims] ** 2 / (len(train) - 1)) ** -power
    turned = (vectors - mean) @ axes[:dims].T * scale
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def naive_joined(find, split, models=(("a", 1.0), ("b", 0.5))):
    parts = [w * np.load(find(f"05_extract_global/{name}/{split}/descriptors.npy")).astype(float) for name, w in models]
    joined = np.concatenate(parts, axis=1)
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


def test_without_whitening_the_joined_models_are_searched(described):
    configure, planted = described
    config = configure(0)
    assert descriptor_references(config, "test") == ["05_extract_global/a/test", "05_extract_global/b/test"]
    opened = open_descriptors(planted, config, "test")
    assert isinstance(opened, JoinedDescriptors)
    np.testing.assert_allclose(opened[:], naive_joined(planted.input, "test"), atol=1e-6)


def test_whitened_splits_and_evidence_hold_what_train_was_fitted_to(described):
    configure, planted = described
    config = configure(5)
    whiten_run(config, planted)
    assert descriptor_references(config, "test") == ["06_build_knn/whitened/test"]
    for split, rows in SPLITS.items():
        opened = open_descriptors(planted, config, split)
        assert opened.shape == (rows, 5) and opened.dtype == np.float32 and isinstance(opened, np.memmap)
        naive = naive_whitening(naive_joined(planted.input, "train"), naive_joined(planted.input, split), 5, 0.25)
        np.testing.assert_allclose(opened @ opened.T, naive @ naive.T, atol=1e-5)
    pair = read_evidence(planted, config, {DescriptorPair}).get(DescriptorPair)
    assert (pair.queries[:] == opened).all() and pair.index.shape == (30, 5)


def test_few_train_photographs_give_few_components_and_one_alone_is_an_error(described, tmp_path):
    configure, planted = described
    train = open_joined(planted, configure(0), "train")
    write_whitening(tmp_path, JoinedDescriptors([train[:4]]), configure(5).search)
    assert np.load(tmp_path / "projection.npy").shape[1] == 3
    with pytest.raises(PipelineError, match="cannot be fitted on 1 train photographs") as caught:
        write_whitening(tmp_path, JoinedDescriptors([train[:1]]), configure(5).search)
    assert "search.whiten_dims" in str(caught.value)


def test_an_empty_split_and_one_of_several_shards_are_whitened_in_their_order(described, tmp_path):
    configure, planted = described
    config = configure(3)
    whiten_run(config, planted)
    train = open_joined(planted, config, "train")[:]
    many = np.tile(train, (SHARD_ROWS // len(train) + 1, 1))
    whitening = planted.input("06_build_knn/whitening")
    write_whitened(RecordedTask(tmp_path / "many"), whitening, JoinedDescriptors([many]), [])
    whitened = np.load(tmp_path / "many" / "descriptors.npy")
    assert len(whitened) == len(many) > SHARD_ROWS and (whitened[-60:] == whitened[:60]).all()
    write_whitened(RecordedTask(tmp_path / "none"), whitening, JoinedDescriptors([many[:0]]), [])
    assert np.load(tmp_path / "none" / "descriptors.npy").shape == (0, 3)


def naive_similarities(queries, base, k):
    return -np.sort(-(queries @ base.T).round(6), axis=1)[:, :k]


def assert_same_lists(found, queries, base):
    """The similarities of a naive search, by rows that have them: ties apart, those are its lists."""
    rows, similarities = np.load(found / "rows.npy"), np.load(found / "similarities.npy")
    k = min(rows.shape[1], len(base))
    expected = naive_similarities(queries, base, k)
    np.testing.assert_allclose(similarities[:, :k], expected, atol=3e-6)
    listed = np.take_along_axis(queries @ base.T, rows[:, :k].astype(np.int64), axis=1)
    np.testing.assert_allclose(listed, expected, atol=3e-6)
    assert all(len(set(row)) == k for row in rows[:, :k].tolist())


def test_a_run_with_whitening_lists_what_a_naive_search_does_and_another_size_reruns_06_and_later(tmp_path, capsys):
    plain = ["clean.source=none", "models.cnn.local=false", "recognition.max_inliers=0"]
    plain += [f"models.cnn.{phase}.epochs=0" for phase in ("base", "final")]
    plain += [
        "rerank.baselines={soft = ['knn', 'soft'], aqe = ['knn', 'aqe'], dba = ['knn', 'dba']}",
        "search.graph_k=5",
    ]
    arguments = ["--config", ROOT / "configs" / "smoke.toml", f"data.root={tmp_path / 'world'}"]
    arguments += [f"runtime.outputs={tmp_path}", *plain]
    assert run(*arguments, "search.whiten_dims=16", "search.whiten_power=0.25") == 0
    find = (tmp_path / "smoke").joinpath
    models = (("cnn", 1.0),)
    train = naive_joined(find, "train", models)
    of = {split: naive_whitening(train, naive_joined(find, split, models), 16, 0.25) for split in SPLITS}
    for queries, base in (("test", "index"), ("test", "train"), ("index", "train")):
        assert_same_lists(find(f"06_build_knn/{queries}_{base}"), of[queries], of[base])
    rows = np.load(find("06_build_knn/test_index/rows.npy"))
    moved = of["test"] + of["index"][rows[:, :5]].sum(axis=1)  # aqe: the query and its five nearest
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    scores = np.load(find("10_rerank_retrieval/aqe/1_aqe.scores.npy"))
    np.testing.assert_allclose(scores[:, :48], naive_similarities(moved, of["index"], 48), atol=3e-6)

    before = {path: path.stat().st_mtime_ns for path in find("05_extract_global").rglob("manifest.json")}
    capsys.readouterr()
    assert run(*arguments, "--status", "search.whiten_dims=8", "search.whiten_power=0.25") == 0
    lines = capsys.readouterr().out.splitlines()
    stale = {line.split()[0] for line in lines if "stale:" in line}
    assert all(line[:2] >= "06" for line in stale)
    assert {"06_build_knn/whitening", "06_build_knn/whitened/test", "06_build_knn/test_index"} <= stale
    assert run(*arguments, "search.whiten_dims=8", "search.whiten_power=0.25") == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert np.load(find("06_build_knn/whitened/test/descriptors.npy")).shape == (24, 8)
    assert run(*arguments, "search.whiten_dims=64", "--to", 6) == 0  # 64 photographs: 63 directions
    assert "63 of 64 components" in capsys.readouterr().err
