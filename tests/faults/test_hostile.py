"""Hostile files and texts: each is normalised or refused with a reason, in bounded time and memory (docs/faults.md)."""

import gzip
import json
import os
import pickle
import signal
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.competition import records
from pipeline.competition.benchmark import Benchmark, add_distractors
from pipeline.competition.dataset import Dataset, SplitListing
from pipeline.competition.folders import read_folders
from pipeline.competition.gldv2 import LONGEST_ID, read_gldv2
from pipeline.competition.metrics import Truth
from pipeline.competition.plain_pickle import read_plain_pickle
from pipeline.competition.records import read_records
from pipeline.competition.revisited import read_revisited
from pipeline.competition.scoring import score_submission
from pipeline.competition.sources import list_sources, read_source
from pipeline.competition.submission import (
    read_recognition,
    read_retrieval,
    validate_retrieval,
    write_recognition,
    write_retrieval,
)
from pipeline.config import load_config
from pipeline.errors import PipelineError
from pipeline.images import inspection
from pipeline.images.inspection import Limits, inspect_photograph
from pipeline.network.checkpoint import DESCRIPTION, load_network, load_training_state, save_network
from pipeline.network.landmark_network import build_embedding, build_landmark_network
from pipeline.network.weights import load_matching, read_weights
from pipeline.settings import DataSettings, ModelSettings, PhaseSettings

LIMITS = Limits(8, 60_000, 100_000_000)
SOON = 5.0  # seconds in which any of these files is refused, on a busy machine


@pytest.fixture(autouse=True)
def soon():
    """Every test of this module ends soon: what is hostile is refused before it costs anything."""

    def interrupt(*_):
        pytest.fail(f"no answer within {6 * SOON} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 6 * SOON)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


# ---- Links ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path):
    """A data folder in GLDv2's format, and one photograph outside of it."""
    root = tmp_path / "root"
    for name, text in (("train", "id,landmark_id\nt1,5\n"), ("index", "id\ni1\n"), ("test", "id\nq1\n")):
        (root / name).mkdir(parents=True)
        (root / f"{name}.csv").write_text(text)
    for path in ("train/t1.jpg", "index/i1.jpg", "test/q1.jpg", "../outside/q1.jpg"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def read(root, **settings):
    data = DataSettings(root=root, **settings)
    list_sources(data)
    return read_source(data)[0]


@pytest.mark.parametrize("name", ["test", "test/q1.jpg", "test.csv"])
def test_a_link_that_leaves_the_data_folder_is_followed_only_when_asked(world, name):
    target = world.parent / "outside"
    if name == "test":
        (world / "test" / "q1.jpg").unlink()
        (world / "test").rmdir()
    else:
        (world / name).unlink()
        target = target / "q1.jpg" if name != "test.csv" else target / "test.csv"
        (world.parent / "outside" / "test.csv").write_text("id\nq1\n")
    (world / name).symlink_to(target)
    for use in (read_source, list_sources):
        with pytest.raises(PipelineError, match=r"1 links lead out of the data folder(?s:.*)data\.follow_links = true"):
            use(DataSettings(root=world))
    assert read(world, follow_links=True).splits["test"].paths == ["test/q1.jpg"]


def test_a_data_folder_that_is_a_link_and_links_inside_it_are_followed(world, tmp_path):
    (world / "test" / "q1.jpg").unlink()
    (world / "test" / "q1.jpg").symlink_to(world / "index" / "i1.jpg")
    (tmp_path / "link").symlink_to(world)
    assert read(tmp_path / "link").splits["test"].paths == ["test/q1.jpg"]


def test_a_broken_link_is_left_to_the_inspection_of_the_photographs(world):
    (world / "test" / "q1.jpg").unlink()
    (world / "test" / "q1.jpg").symlink_to("/nowhere/q1.jpg")
    assert read(world, layout="flat").splits["test"].paths == ["test/q1.jpg"]
    assert inspect_photograph(world / "test" / "q1.jpg", LIMITS).reason


@pytest.mark.parametrize("follow", [False, True])
def test_links_in_circles_are_refused_before_they_are_walked(world, follow):
    for name in ("a", "b", "c"):
        (world / "test" / name).symlink_to(world / "test")  # 3 ** 40 folders, up to the limit of the system
    with pytest.raises(PipelineError, match="reached in more than 8 ways"):
        read(world, follow_links=follow)


def test_links_change_no_cache_key_unless_they_are_asked_for():
    assert "follow_links" not in DataSettings().prepare_settings
    assert DataSettings(follow_links=True).prepare_settings["follow_links"] is True


# ---- Tables ---------------------------------------------------------------------------------------------------------


def first_records(path, columns=("id",)):
    return list(read_records(path, columns))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffid\na\n",
        "id\r\na\r\n",
        "id\ra\r",
        'id\n"a"\n',
        "id,\na,\n",
        "id,url\na,\n",
        " id \na\n",
        "id\n\n\na",
        "id\na,,,\n",
    ],
)
def test_a_byte_order_mark_line_ends_quotes_and_trailing_commas_change_nothing(tmp_path, text):
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert [cells for _, cells in first_records(tmp_path / "x.csv")] == [["a"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no column 'id'"),
        (b"a\nb\n", "no column 'id'"),
        (b"id,id\na,b\n", "two columns 'id'"),
        (b"id\na,b\n", "2 cells"),
        (b'id\n"a\n', "not a CSV"),
        (b'id\n"a"b\n', "not a CSV"),
        (b"id\n\xff\n", "not a CSV in UTF-8"),
        ("id\na\n".encode("utf-16"), "not a CSV in UTF-8"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "x.csv").write_bytes(text)
    with pytest.raises(PipelineError, match=message):
        first_records(tmp_path / "x.csv")


def test_a_cell_of_a_hundred_megabytes_is_refused_before_it_is_in_memory(tmp_path):
    with open(tmp_path / "x.csv", "wb") as file:
        file.write(b"id\n")
        file.truncate(100 << 20)
    with pytest.raises(PipelineError, match="a line of more than 16777216 characters"):
        first_records(tmp_path / "x.csv")


def test_a_cell_of_many_lines_is_refused_at_the_same_length(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LINE_LIMIT", 1000)
    (tmp_path / "x.csv").write_text('id\n"' + "a\n" * 400 + '"\n')
    assert len(first_records(tmp_path / "x.csv")) == 1
    (tmp_path / "x.csv").write_text('id\n"' + "a\n" * 600 + '"\n')
    with pytest.raises(PipelineError, match="field limit"):
        first_records(tmp_path / "x.csv")


def test_a_gzip_bomb_is_refused_and_an_honest_file_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FREE_BYTES", 10_000)
    honest = "id,images\n" + "".join(f"{number:016x},\n" for number in range(2000))
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(honest.encode()))
    assert len(list(read_retrieval(tmp_path / "x.csv.gz"))) == 2000
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"id,images\n" + b"\n" * 4_000_000))
    with pytest.raises(PipelineError, match="expands to more than 200 times its size"):
        list(read_retrieval(tmp_path / "x.csv.gz"))


def test_a_pipe_and_a_folder_in_place_of_a_table_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(PipelineError, match="not a regular file"):
        first_records(tmp_path / "pipe.csv")
    with pytest.raises(PipelineError, match="Is a directory"):
        first_records(tmp_path / "folder.csv")


BAD_IDS = [
    "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", '"a\nb"', "a b", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "<b>", "a&b",
    "'a'", '"a,b"', '"a""b"', "é", ".hidden", "..", "\x1b[2J", "a" * (LONGEST_ID + 1), "",
]  # fmt: skip


@pytest.mark.parametrize("text", [name for name in BAD_IDS if name])
def test_ids_that_a_path_a_spreadsheet_or_a_page_would_read_are_refused_with_their_line(world, text):
    (world / "index.csv").write_text(f"id\n{text}\n")
    with pytest.raises(PipelineError, match=r"(?s)cannot be the id of a photograph.*index\.csv, line [23]") as caught:
        read_gldv2(world)
    assert "\x1b" not in str(caught.value)


def test_the_longest_id_is_the_longest_file_name(world):
    name = "a" * LONGEST_ID
    (world / "index.csv").write_text(f"id\n{name}\n")
    (world / "index" / f"{name}.jpg").write_bytes(b"x")
    assert read_gldv2(world).splits["index"].paths == [f"index/{name}.jpg"]


def test_file_names_that_are_not_utf8_are_refused_by_name(tmp_path):
    for split in ("train/a", "index", "test"):
        (tmp_path / split).mkdir(parents=True)
    (tmp_path / "index" / "naïve.jpg").write_bytes(b"x")
    assert read_folders(tmp_path).splits["index"].ids == ["na_ve"]
    with open(os.fsencode(tmp_path / "index") + b"/na\xefve.jpg", "wb"):
        pass
    with pytest.raises(PipelineError, match=r"1 file names are not UTF-8, such as 'index/na\\udcefve\.jpg'"):
        read_folders(tmp_path)
    bare = {"train": SplitListing([], []), "index": SplitListing([], []), "test": SplitListing([], [])}
    with pytest.raises(PipelineError, match="not UTF-8"):
        add_distractors(Benchmark(Dataset(bare), {}), tmp_path / "index")


def test_folders_named_by_numbers_that_no_table_holds_are_names(tmp_path):
    for path in ("train/123456789012345678901/a.jpg", "train/5/b.jpg", "index/c.jpg", "test/d.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    assert read_folders(tmp_path).landmark_names == {0: "123456789012345678901", 1: "5"}


def test_a_message_quotes_no_more_than_a_few_words_of_a_file(world):
    (world / "train.csv").write_text(f"id,landmark_id\nt1,{'9' * 100_000}\n")
    with pytest.raises(PipelineError) as caught:
        read_gldv2(world)
    assert len(str(caught.value)) < 1000
    assert len(str(PipelineError("a" * 10_000, "b" * 10_000, "c"))) < 5000


# ---- Submissions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [name.strip('"') for name in BAD_IDS if len(name) < 100])
def test_no_submission_holds_an_id_that_breaks_a_cell_or_that_a_spreadsheet_computes(tmp_path, bad):
    with pytest.raises(PipelineError, match="1 ids cannot stand in a submission"):
        write_retrieval(tmp_path / "x.csv", [bad], np.int32([[0]]), ["i"])
    with pytest.raises(PipelineError, match="1 ids cannot stand in a submission"):
        write_retrieval(tmp_path / "x.csv", ["q"], np.int32([[0]]), [bad])
    with pytest.raises(PipelineError, match="1 ids cannot stand in a submission"):
        write_recognition(tmp_path / "x.csv", [bad], np.array([1]), np.float32([1]))
    assert not list(tmp_path.iterdir())


def test_landmarks_of_eighteen_digits_are_scored_and_longer_ones_refused(tmp_path):
    names = [f"q{number}" for number in range(40)]
    solution, submission = tmp_path / "solution.csv", tmp_path / "x.csv"
    solution.write_text(
        "id,landmarks,Usage\n" + "".join(f"{name},{10**18 - 1 - n},Public\n" for n, name in enumerate(names))
    )
    submission.write_text("id,landmarks\n" + "".join(f"{name},{10**18 - 1 - n} 0.5\n" for n, name in enumerate(names)))
    assert score_submission(solution, submission).scores["gap"] == 1.0
    submission.write_text("id,landmarks\n" + "".join(f"{name},{10**18 - 2 - n} 0.5\n" for n, name in enumerate(names)))
    assert score_submission(solution, submission).scores["gap"] == 0.0
    submission.write_text(f"id,landmarks\nq1,{10**18} 0.5\n")
    with pytest.raises(PipelineError, match="no answer"):
        list(read_recognition(submission))


def test_looking_up_great_numbers_agrees_with_a_set():
    rng = np.random.default_rng(0)
    for top in (10, 10**18):
        pairs = {(int(q), int(v)) for q, v in zip(rng.integers(0, 30, 50), top - rng.integers(1, 9, 50), strict=True)}
        truth = Truth.from_pairs(*(np.array(side) for side in zip(*pairs, strict=True)), 30)
        queries, values = rng.integers(0, 30, 500), top - rng.integers(1, 10, 500)
        values[::7] = -1
        expected = [(int(q), int(v)) in pairs for q, v in zip(queries, values, strict=True)]
        assert truth.holds(queries, values).tolist() == expected


def test_a_validated_submission_names_offenders_without_control_characters(tmp_path):
    (tmp_path / "x.csv").write_text("id,images\n\x1b[2J,i\n")
    with pytest.raises(PipelineError) as caught:
        validate_retrieval(tmp_path / "x.csv", ["q"], ["i"])
    assert "\x1b" not in str(caught.value) and "x1b[2J" in str(caught.value)


# ---- Photographs ----------------------------------------------------------------------------------------------------


def make_png(width, height, pixels):
    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("side", "said"), [(50_000, "178 million"), (11_000, "more than 100000000 pixels")])
def test_a_header_of_huge_sides_is_refused_before_any_pixel_is_decoded(tmp_path, side, said, monkeypatch):
    (tmp_path / "x.png").write_bytes(make_png(side, side, zlib.compress(bytes(1000))))
    monkeypatch.setattr(inspection, "decode_photograph", lambda *_, **__: pytest.fail("a pixel was decoded"))
    assert said in inspect_photograph(tmp_path / "x.png", LIMITS, decode=True).reason


def test_a_png_whose_pixels_expand_beyond_its_header_is_read_no_further(tmp_path):
    bomb = zlib.compress(bytes(100 << 20), 1)
    (tmp_path / "x.png").write_bytes(make_png(16, 16, bomb))
    found = inspect_photograph(tmp_path / "x.png", LIMITS, decode=True)
    assert (found.width, found.height) == (16, 16) or found.reason


def test_a_png_chunk_longer_than_its_file_is_refused_before_memory_is_taken_for_it(tmp_path):
    """A length of 0xF0000000 in a file of 70 bytes once made OpenCV allocate 3.8 GB."""
    honest = make_png(16, 16, zlib.compress(bytes(272)))
    at = honest.index(b"IDAT") - 4
    (tmp_path / "x.png").write_bytes(honest[:at] + b"\xf0\0\0\0" + honest[at + 4 :])
    assert "longer than the file" in inspect_photograph(tmp_path / "x.png", LIMITS, decode=True).reason
    (tmp_path / "y.png").write_bytes(honest)
    assert inspect_photograph(tmp_path / "y.png", LIMITS, decode=True).reason == ""


def test_folders_and_texts_named_like_photographs_are_rejected_with_a_reason(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "text.jpg").write_text("<script>")
    with zipfile.ZipFile(tmp_path / "zip.jpg", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a", bytes(10 << 20))
    for name in ("folder.jpg", "text.jpg", "zip.jpg"):
        assert inspect_photograph(tmp_path / name, LIMITS).reason


# ---- Pickles --------------------------------------------------------------------------------------------------------


def doubled(levels):
    value = ["a"]
    for _ in range(levels):
        value = [value, value]
    return value


PICKLES = {
    "a memo of two thousand million positions": (b"\x80\x02]r\xff\xff\xff\x7f.", None),
    "ten thousand million bytes": (b"cbuiltins\nbytes\n(I10000000000\ntR.", "not a pickle"),
    "bytes that are not there": (b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.", "not a pickle"),
    "a set of bytes": (b"cbuiltins\nset\n(cbuiltins\nbytes\n(I10\ntRtR.", "not a pickle"),
    "lists that hold each other": (pickle.dumps(doubled(60)), "many times over"),
    "a list that holds itself": (b"]q\x00h\x00a.", "not a pickle|many times over"),
    "a million million empty rows": (
        pickle.dumps(np.zeros((0, 1)), 2).replace(b"K\x00K\x01\x86", b"J\xff\xff\xff\x7fK\x00\x86"), "an empty array"
    ),
    "an attribute of a function": (b"c_codecs\nencode\nN}X\x04\x00\x00\x00callNs\x86b.", "a change of a function"),
    "os.system": (b"cos\nsystem\n(S'true'\ntR.", "asks for os.system"),
    "a text of a million characters in its place": (b"c" + b"a" * 1_000_000 + b"\nb\n.", "asks for"),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_asks_for_more_than_its_size_is_refused(tmp_path, name):
    stream, message = PICKLES[name]
    (tmp_path / "gnd_x.pkl").write_bytes(stream)
    start = time.perf_counter()
    if message is None:
        assert read_plain_pickle(tmp_path / "gnd_x.pkl") == []
    else:
        with pytest.raises(PipelineError, match=message) as caught:
            read_plain_pickle(tmp_path / "gnd_x.pkl")
        assert len(str(caught.value)) < 5000
    with pytest.raises(PipelineError):
        read_revisited(tmp_path / "gnd_x.pkl")
    assert time.perf_counter() - start < SOON


def test_a_pickle_that_was_refused_changes_no_later_one(tmp_path):
    (tmp_path / "good.pkl").write_bytes(pickle.dumps([b"\xff", np.arange(3)], 2))
    before = read_plain_pickle(tmp_path / "good.pkl")
    for name in (b"c_codecs\nencode\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"cbuiltins\nset\n"):
        (tmp_path / "bad.pkl").write_bytes(name + b"N}X\x0c\x00\x00\x00__defaults__)s\x86b.")
        with pytest.raises(PipelineError):
            read_plain_pickle(tmp_path / "bad.pkl")
    after = read_plain_pickle(tmp_path / "good.pkl")
    assert before[0] == after[0] and before[1].tolist() == after[1].tolist()


# ---- Weights and training states ------------------------------------------------------------------------------------


def safe_header(header, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(64)


def entry(dtype="F32", shape=(2, 3), offsets=(0, 24)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "longer than the file": safe_header({"weight": entry()}, 10**12),
    "of all bits": safe_header({"weight": entry()}, 2**64 - 1),
    "offsets that overlap": safe_header({"weight": entry(), "bias": entry(shape=(2,), offsets=(20, 28))}),
    "offsets beyond the file": safe_header({"weight": entry(offsets=(10**9, 10**9 + 24))}),
    "offsets in reverse": safe_header({"weight": entry(offsets=(24, 0))}),
    "an unknown type": safe_header({"weight": entry(dtype="F31")}),
    "a shape that does not fit": safe_header({"weight": entry(shape=(200, 300))}),
    "a shape that overflows": safe_header({"weight": entry(shape=(2**63, 2**63))}),
    "a negative shape": safe_header({"weight": entry(shape=(-2, -3))}),
    "a list": safe_header([1, 2]),
    "nesting without end": safe_header(b"[" * 100_000),
    "no JSON": safe_header(b"\xff\xfe{}"),
    "nothing": b"",
    "seven bytes": b"\0" * 7,
}


@pytest.mark.parametrize("name", HEADERS)
def test_safetensors_with_absurd_headers_are_refused(tmp_path, name):
    (tmp_path / "x.safetensors").write_bytes(HEADERS[name])
    with pytest.raises(PipelineError, match=r"not a weights file that can be trusted: ."):
        read_weights(tmp_path / "x.safetensors")


class Touch:
    """What pickles as a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def zip_bomb(path):
    torch.save({"weight": torch.zeros(5_000_000)}, path.with_suffix(".whole"))
    with zipfile.ZipFile(path.with_suffix(".whole")) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))


@pytest.mark.parametrize("use", [read_weights, load_training_state])
def test_weights_and_states_run_no_code_and_do_not_expand(tmp_path, use):
    path = tmp_path / "x.pt"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps({"format": 3, "weight": Touch(tmp_path / "touched")}, protocol))
        with pytest.raises(PipelineError, match="can be trusted"):
            use(path)
    torch.save({"weight": Touch(tmp_path / "touched")}, path)
    with pytest.raises(PipelineError, match="can be trusted"):
        use(path)
    assert not (tmp_path / "touched").exists()
    zip_bomb(path)
    with pytest.raises(PipelineError, match="bytes would expand to"):
        use(path)
    path.write_bytes(b"\x80\x02c" + b'{"a":' * 100_000 + b"\nb\n.")  # in it torch would seek words for hours
    with pytest.raises(PipelineError, match="a text of 5"):
        use(path)
    torch.save({"weight": Touch("a" * 200_000)}, path)
    with pytest.raises(PipelineError, match="a text of 200000"):
        use(path)
    for content in (b"", b"PK\x03\x04", b"text", b"\x80\x02]."):
        path.write_bytes(content)
        with pytest.raises(PipelineError):
            use(path)


@pytest.mark.parametrize("value", [[1, 2], 3, "text", {"state_dict": [1]}, {1: torch.zeros(2)}, torch.zeros(2)])
def test_weights_that_are_no_dictionary_of_tensors_are_refused(tmp_path, value):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(PipelineError):
        load_matching(nn.Linear(3, 2), read_weights(tmp_path / "x.pt"), "linear", "x.pt")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.int64])
def test_weights_of_another_kind_of_number_are_refused(dtype):
    state = {"weight": torch.ones(2, 3).to(dtype), "bias": torch.ones(2)}
    with pytest.raises(PipelineError, match="weight is of the type"):
        load_matching(nn.Linear(3, 2), state, "linear", "x.pt")
    sparse = {"weight": torch.ones(2, 3).to_sparse(), "bias": torch.ones(2)}
    with pytest.raises(PipelineError, match="weight is of the type"):
        load_matching(nn.Linear(3, 2), sparse, "linear", "x.pt")
    load_matching(nn.Linear(3, 2), {"weight": torch.ones(2, 3).half(), "bias": torch.ones(2).bfloat16()}, "linear", "")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    model = ModelSettings(backbone="resnet18", weights="none", dims=8, local=False)
    folder = tmp_path_factory.mktemp("network")
    ids = np.array([1, 2])
    save_network(folder, build_landmark_network(build_embedding(model, 1), PhaseSettings(), ids, 1, local=False))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": None}, {"architecture": {"backbone": "resnet18"}}, {"landmark_ids": "x"},
        {"head": {"kind": "x"}}, {"landmark_ids": [10**30]}, {"head": {"kind": "arcface", "nobody": 1}},
        {"head": None}, {"landmark_ids": None},
        {"head": {"kind": "subcenter_arcface", "sub_centres": 10**12}}, {"landmark_ids": [[1], [2]]},
        {"architecture": {"backbone": "resnet18", "dims": 10**12, "pooling": "gem", "local": False}},
        {"architecture": {"backbone": "resnet18", "dims": -1, "pooling": "gem", "local": False}},
        {"architecture": {"backbone": ["a"], "dims": 8, "pooling": "gem", "local": False}},
        {"architecture": {"backbone": "resnet18", "dims": 8, "pooling": 5, "local": False}},
    ],
)  # fmt: skip
def test_an_absurd_description_of_a_network_is_refused(tmp_path, network, change):
    for file in network.iterdir():
        (tmp_path / file.name).symlink_to(file)
    about = json.loads((network / DESCRIPTION).read_text()) | change
    (tmp_path / DESCRIPTION).unlink()
    (tmp_path / DESCRIPTION).write_text(json.dumps(about))
    with pytest.raises(PipelineError):
        load_network(tmp_path)


def test_a_description_of_more_weights_than_the_file_holds_is_refused_before_they_are_made(tmp_path, network):
    for file in network.iterdir():
        (tmp_path / file.name).symlink_to(file)
    about = json.loads((network / DESCRIPTION).read_text()) | {
        "head": {"kind": "subcenter_arcface", "sub_centres": 10**7}
    }
    (tmp_path / DESCRIPTION).unlink()
    (tmp_path / DESCRIPTION).write_text(json.dumps(about))
    with pytest.raises(PipelineError, match="a head of 160000000 weights, in a file of"):
        load_network(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "3", '{"format": 3}', "\0", "9" * 5000])
def test_a_damaged_description_of_a_network_is_refused(tmp_path, text):
    (tmp_path / DESCRIPTION).write_text(text)
    with pytest.raises(PipelineError):
        load_network(tmp_path)


# ---- Settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[data]\nroot = "' + "a" * 10_000_000 + '"\n', "more than 1048576 bytes"),
        ("a = " + "[" * 100_000, "not TOML"),
        ("a." * 100_000 + "b = 1", "a key of more than 8 parts"),
        ('"a"."b".' * 10_000 + "c = 1", "a key of more than 8 parts"),
        ("[" + "a." * 1000 + "b]", "a key of more than 8 parts"),
        ("seed = " + "9" * 5000, "not TOML"),
        ("[models.cnn.base]\nlearning_rate = inf", "finite"),
        ("[rerank.insert]\nmin_confidence = nan", "finite"),
        ("[rerank.graph_traversal]\nthreshold = nan", "threshold"),
        ("[rerank]\ninsert = 3\nmin_confidence = 0.5", "insert"),
        ('[data]\nlayout = "' + "x" * 100_000 + '"', "layout"),
        ("\ufeffseed = -1", "seed"),
        ("models = 3", "models"),
        ('[runtime]\noutputs = "a\\u0000b"', "a NUL character"),
        ('[data]\nsource = "folders"\nroot = "' + "x" * 5000 + '"', "no path is so long"),
    ],
)
def test_settings_of_any_size_and_depth_are_refused_in_a_few_words(tmp_path, text, message):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(PipelineError, match=message) as caught:
        load_config(tmp_path / "x.toml")
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize(
    "override", ["a." * 10_000 + "b=1", "a=" + "[" * 10_000, "seed=" + "9" * 5000, "=", "seed.x=1"]
)
def test_overrides_of_any_size_and_depth_are_refused(tmp_path, override):
    (tmp_path / "x.toml").write_text("")
    with pytest.raises(PipelineError):
        load_config(tmp_path / "x.toml", [override])


def test_a_configuration_without_end_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="more than 1048576 bytes"):
        load_config(tmp_path.joinpath("/dev/zero"))


def test_long_lists_of_numbers_and_comments_with_dots_are_no_long_keys(tmp_path):
    scales = ", ".join(["0.5"] * 50)
    (tmp_path / "x.toml").write_text(
        f"# a.b.c.d.e.f.g.h.i.j.k ...............\n[extract]\nscales = [{scales}]  # 1.2.3\n"
    )
    assert len(load_config(tmp_path / "x.toml").extract.scales) == 50


@pytest.mark.parametrize("value", ["inf", "-inf", "0.5"])
def test_the_one_setting_that_may_be_infinite_is(tmp_path, value):
    (tmp_path / "x.toml").write_text(f"[rerank.graph_traversal]\nthreshold = {value}\n")
    assert load_config(tmp_path / "x.toml").rerank.of_step("graph_traversal").threshold == float(value)
