"""Settings: what is wrong is named with its key, its file and what is allowed."""

from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.config_file import RENAMED
from pipeline.errors import PipelineError


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "some_run.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_an_empty_file_gives_the_defaults_and_names_the_run_after_itself(toml):
    config = load_config(toml(""))
    assert config.run == "some_run"
    assert config.rerank.recipe == ["knn", "sort", "insert"]
    assert config.rerank.insert.min_confidence == 0.6


def test_overrides_are_read_as_toml_and_beat_the_file(toml):
    path = toml("[rerank.insert]\nmin_confidence = 0.5\n[models.a]\nbackbone = 'resnet18'\n")
    config = load_config(
        path,
        [
            "rerank.insert.min_confidence=0.9",
            "rerank.baselines.s=['knn', 'sort']",
            "data.root=/photos",
            "models.a.base.epochs=2",
        ],
    )
    assert config.rerank.insert.min_confidence == 0.9
    assert config.rerank.baselines == {"s": ["knn", "sort"]}
    assert config.data.root == Path("/photos")
    assert config.models["a"].base.epochs == 2
    assert list(config.models) == ["a"]


def test_settings_of_earlier_versions_are_read_under_their_present_names_and_it_is_said(toml, caplog):
    text = """
        [models.a]
        trained = "there"
        [search]
        factory = "IVF8,Flat"
        probes = 3
        [rerank]
        min_confidence = 0.7
        rivals = {s = ["knn", "sort"]}
        [verify]
        max_residual = 0.03
        trials = 10
        min_inliers = 25
        """
    config = load_config(toml(text), ["models.b.trained=elsewhere"])
    assert [str(model.checkpoint) for model in config.models.values()] == ["there", "elsewhere"]
    assert (config.search.index_factory, config.search.nprobe) == ("IVF8,Flat", 3)
    assert config.rerank.insert.min_confidence == 0.7 and config.rerank.baselines == {"s": ["knn", "sort"]}
    assert (config.verify.inlier_threshold, config.verify.max_iterations) == (0.03, 10)
    assert config.rerank.of_step("verify").min_inliers == 25
    said = [record.getMessage() for record in caplog.records]
    assert "setting models.b.trained is now called models.b.checkpoint; the old name is still read" in said
    assert len(said) == len(RENAMED) + 1
    with pytest.raises(PipelineError, match=r"search\.probes and search\.nprobe are the same setting"):
        load_config(toml("[search]\nprobes = 3\nnprobe = 4"))


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("[rerank]\ntop = 3", [], ["rerank.top", "baselines", "some_run.toml"]),
        ("speed = 3", [], ["unknown setting speed", "rerank"]),
        ("[models.a.base]\nepoch = 1", [], ["models.a.base.epoch", "epochs"]),
        ("", ["rerank.insert.min_confidence=2.5"], ["rerank.insert.min_confidence", "2.5", "less than or equal to 2"]),
        ("", ["models.cnn.base.epochs=many"], ["models.cnn.base.epochs", "'many'", "integer"]),
        ("", ["models.cnn.base.head=sphereface"], ["models.cnn.base.head", "subcenter_arcface"]),
        ("", ["models.cnn.base.min_margin=0.4"], ["min_margin = 0.4 is above margin = 0.3"]),
        (
            "",
            ["models.cnn.base.min_margin=0.1", "models.cnn.base.head=adacos"],
            ["min_margin needs", "adacos has none"],
        ),
        ("", ["models.cnn.base.large_epochs=6"], ["large_epochs = 6 of 5 epochs"]),
        ("", ["models.cnn.final.stop_after=6"], ["models.cnn.final", "stop_after = 6 of 5 epochs"]),
        ("", ["models.cnn.pooling=netvlad"], ["models.cnn.pooling", "rmac"]),
        ("", ["data.source=somewhere"], ["data.source", "gldv2"]),
        ("", ["rerank.recipe=['sort']"], ["starts with knn"]),
        ("", ["rerank.baselines.a=['knn', 'dance']"], ["rerank.baselines.a", "dance"]),
        ("", ["rerank.baselines.recipe=['knn']"], ["name of the submission's own"]),
        ("", ["vote.votes=20"], ["vote.votes = 20", "search.train_k is 10"]),
        ("", ["recognition.votes=20"], ["recognition.votes = 20", "search.train_k is 10"]),
        ("", ["recognition.power=0"], ["recognition.power", "greater than 0"]),
        ("", ["recognition.head_power=-1"], ["recognition.head_power", "greater than or equal to 0"]),
        ("", ["recognition.penalty_train_k=0"], ["recognition.penalty_train_k", "greater than or equal to 1"]),
        ("", ["data.source=demo", "recognition.non_landmarks=true"], ["demo.non_landmark_images is 0"]),
        ("", ["run=../elsewhere"], ["run", "../elsewhere"]),
        ("", ["rerank"], ["section.key=value"]),
        ("", ["seed.deep=1"], ["seed is a value"]),
        ("seed = 1\nrun = \n", [], ["not TOML", "line 2"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(toml, text, overrides, expected):
    if "seed.deep=1" in overrides:
        text = "seed = 1"
    with pytest.raises(PipelineError) as caught:
        load_config(toml(text), overrides)
    for part in expected:
        assert part in str(caught.value)
    assert caught.value.exit_code == 2


def test_lists_longer_than_a_submission_are_for_benchmarks_alone(toml):
    benchmark = ["data.source=revisited", "models.cnn.checkpoint=somewhere", "rerank.recipe=['knn']"]
    assert load_config(toml(""), [*benchmark, "rerank.top_k=5000"]).rerank.top_k == 5000
    with pytest.raises(PipelineError, match=r"rerank\.top_k = 5000: a submission holds 100"):
        load_config(toml(""), ["rerank.top_k=5000"])


@pytest.mark.parametrize("setting", ["train_root=a", "distractors=a", "ground_truth=a.pkl"])
def test_what_only_benchmarks_read_is_refused_elsewhere(toml, setting):
    with pytest.raises(PipelineError, match=r"data\.source = gldv2 takes no ground_truth, train_root or distractors"):
        load_config(toml(""), [f"data.{setting}"])


def test_a_benchmark_without_labels_needs_a_trained_network_and_steps_that_need_no_labels(toml):
    benchmark, plain = "data.source=holidays", "rerank.recipe=['knn', 'aqe']"
    with pytest.raises(PipelineError, match=r"the step sort of the recipe recipe .* data\.train_root"):
        load_config(toml(""), [benchmark, "models.cnn.checkpoint=somewhere"])
    with pytest.raises(PipelineError, match=r"training models\.cnn .* data\.train_root .* models\.<name>\.checkpoint"):
        load_config(toml(""), [benchmark, plain])
    with pytest.raises(PipelineError, match="the step dba of the recipe recipe"):
        load_config(
            toml(""),
            [benchmark, "models.cnn.checkpoint=a", "rerank.recipe=['knn', 'dba']", "rerank.dba.supervised=true"],
        )
    assert load_config(toml(""), [benchmark, "data.train_root=labelled"]).data.has_train


WITHOUT, WITH = "[models.a]\nlocal = false\n", "[models.b]\nlocal = true\n"
VERIFIED, WEIGHED = "rerank.recipe=['knn', 'verify']", "recognition.max_inliers=70"
VOTED = "vote.max_inliers=70"


@pytest.mark.parametrize(
    ("override", "asking"),
    [
        (VERIFIED, "the step verify"),
        ("rerank.baselines.s=['knn', 'verify']", "the step verify"),
        (WEIGHED, "recognition.max_inliers"),
        (VOTED, "vote.max_inliers"),
        ("clean.source=verify", "clean.source = verify"),
    ],
)
def test_what_needs_local_features_is_refused_without_a_model_that_has_them(toml, override, asking):
    load_config(toml(WITHOUT))
    with pytest.raises(PipelineError, match="local = true in a model") as caught:
        load_config(toml(WITHOUT), [override])
    assert asking in str(caught.value)
    load_config(toml(WITHOUT + WITH), [override])


@pytest.mark.parametrize("override", [VERIFIED, WEIGHED, VOTED, "clean.source=verify", "clean.source=auto"])
def test_a_model_without_local_features_cannot_be_the_one_that_is_compared(toml, override):
    with pytest.raises(PipelineError, match="local = true"):
        load_config(toml(WITHOUT + WITH), ["local.model=a", override])


def test_a_model_for_local_features_that_is_none_of_the_models_is_refused(toml):
    with pytest.raises(PipelineError, match=r"local\.model = c is none of the models a, b"):
        load_config(toml(WITHOUT + WITH), ["local.model=c"])


def test_the_first_model_with_a_local_branch_is_compared_unless_another_is_named(toml):
    text = WITHOUT + WITH + "[models.c]\nlocal = true\n"
    assert load_config(toml(text)).local_model == "b"
    assert load_config(toml(text), ["local.model=c"]).local_model == "c"
    assert load_config(toml(WITHOUT)).local_model == ""
    assert load_config(toml("")).local_model == "cnn"


def test_test_photographs_are_compared_with_the_splits_that_a_setting_asks_for(toml):
    path = toml("")
    assert load_config(path).verified_splits == []
    assert load_config(path, [VERIFIED]).verified_splits == ["index"]
    assert load_config(path, ["rerank.baselines.s=['knn', 'verify', 'sort']"]).verified_splits == ["index"]
    assert load_config(path, [WEIGHED]).verified_splits == ["train"]
    assert load_config(path, [VOTED]).verified_splits == ["train"]
    assert load_config(path, [VOTED, WEIGHED]).verified_splits == ["train"]
    assert load_config(path, [VERIFIED, WEIGHED]).verified_splits == ["index", "train"]


@pytest.mark.parametrize(("split", "override", "known"), [("index", VERIFIED, 100), ("train", WEIGHED, 10)])
def test_more_comparisons_than_neighbours_are_refused_where_there_are_comparisons(toml, split, override, known):
    path, other = toml(""), {VERIFIED: WEIGHED, WEIGHED: VERIFIED}[override]
    asked = f"verify.{split}_k={known + 1}"
    assert load_config(path, [asked, other]).verify.first(split) == known + 1
    with pytest.raises(PipelineError) as caught:
        load_config(path, [asked, override])
    assert f"verify.{split}_k = {known + 1}" in str(caught.value) and f"search.{split}_k is {known}" in str(
        caught.value
    )
    load_config(path, [asked, override, f"search.{split}_k={known + 1}"])
    load_config(path, [f"verify.{split}_k={known}", override])


def test_whitening_to_more_components_than_the_models_have_dims_is_refused(toml):
    two = toml("[models.a]\ndims = 48\n[models.b]\ndims = 16\n")
    assert load_config(two, ["search.whiten_dims=64"]).search.whiten_power == 0.25
    with pytest.raises(PipelineError, match=r"search\.whiten_dims = 65 is more than the 64 dims of all models"):
        load_config(two, ["search.whiten_dims=65"])
    with pytest.raises(PipelineError, match=r"search\.whiten_power"):
        load_config(two, ["search.whiten_power=0.6"])


def test_a_missing_file_lists_the_configurations_that_there_are(toml, tmp_path):
    toml("")
    with pytest.raises(PipelineError, match=r"some_run\.toml"):
        load_config(tmp_path / "demo.toml")


def test_every_shipped_configuration_loads():
    paths = sorted(Path("configs").glob("*.toml"))
    assert paths
    for path in paths:
        assert load_config(path).run == path.stem


def test_non_landmarks_are_a_split_and_their_numbers_matter_when_recognition_asks_for_them(toml):
    path, on = toml(""), "recognition.non_landmarks=true"
    fewer = "recognition.penalty_test_k=3"
    assert load_config(path).splits == ("train", "index", "test")
    assert load_config(path, [on]).splits == ("train", "index", "test", "non_landmark")
    assert load_config(path, [fewer]).recognition.answer_settings == load_config(path).recognition.answer_settings
    assert load_config(path, [on, fewer]).recognition.answer_settings["penalty_test_k"] == 3
    assert load_config(path, ["data.source=demo", "demo.non_landmark_images=5", on]).splits[-1] == "non_landmark"
