"""Images of every format are decoded to upright RGB arrays, or refused with a reason."""

import errno
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.images.decode import UndecodableImage, decode_photograph, read_header, resize_photograph
from pipeline.images.jpeg_damage import find_jpeg_damage

LEFT_RED = np.zeros((40, 60, 3), np.uint8)
LEFT_RED[:, :30] = (255, 0, 0)
LEFT_RED[:, 30:] = (0, 0, 255)


def noise(width=320, height=240, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def save(path, image, **options):
    Image.fromarray(image).save(path, **options)
    return path


def refusal(path, strict=False):
    """The reason why the file is refused, which must not be empty."""
    with pytest.raises(UndecodableImage) as caught:
        decode_photograph(path, strict=strict)
    reason = str(caught.value)
    assert reason
    return reason


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif", "a.bmp", "a.jpg"])
def test_every_format_decodes_to_the_same_rgb_image(tmp_path, name):
    options = {"lossless": True} if name == "a.webp" else {"quality": 100} if name == "a.jpg" else {}
    path = save(tmp_path / name, LEFT_RED, **options)
    assert read_header(path) == (60, 40)
    image = decode_photograph(path, strict=True)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    np.testing.assert_allclose(image[20, [10, 50]], LEFT_RED[20, [10, 50]], atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation_is_applied_as_pillow_applies_it(tmp_path, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = np.full((40, 60, 3), 128, np.uint8)
    corners[:20, :30], corners[:20, 30:], corners[20:, :30] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    path = save(tmp_path / name, corners, exif=exif)
    with Image.open(path) as image:
        from PIL import ImageOps

        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = decode_photograph(path)
    assert read_header(path) == (found.shape[1], found.shape[0])
    np.testing.assert_allclose(found.astype(int), upright, atol=6)


def test_an_unknown_orientation_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    assert read_header(save(tmp_path / "a.jpg", LEFT_RED, exif=exif)) == (60, 40)


def test_grayscale_becomes_three_equal_channels(tmp_path):
    image = decode_photograph(save(tmp_path / "a.png", LEFT_RED[..., 0]))
    assert image.shape == (40, 60, 3)
    assert (image == LEFT_RED[..., :1]).all()


def test_sixteen_bits_become_the_high_byte(tmp_path):
    deep = (LEFT_RED.astype(np.uint16) << 8) + 200
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    assert (decode_photograph(tmp_path / "a.png", strict=True) == LEFT_RED).all()


def test_transparency_is_blended_over_white(tmp_path):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:20], alpha[20:30] = 0, 128
    image = decode_photograph(save(tmp_path / "a.png", np.concatenate([LEFT_RED, alpha], 2)))
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[25, 0].tolist() == [255, 127, 127]
    assert image[35, 0].tolist() == [255, 0, 0]


def test_a_transparent_palette_is_blended_over_white(tmp_path):
    palette = Image.fromarray(np.repeat(np.uint8([[0, 1]]), 20, 0).repeat(10, 1), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "a.png", transparency=0)
    image = decode_photograph(tmp_path / "a.png")
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[0, 19].tolist() == [0, 255, 0]


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.fromarray(LEFT_RED).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    image = decode_photograph(tmp_path / "a.jpg", strict=True)
    np.testing.assert_allclose(image[20, [5, 55]].astype(int), [[255, 0, 0], [0, 0, 255]], atol=8)


@pytest.mark.parametrize(("wanted", "shape"), [((100, 75), (120, 160)), ((40, 30), (30, 40)), ((161, 121), (240, 320))])
def test_a_large_jpeg_is_decoded_smaller_but_never_below_the_wanted_size(tmp_path, wanted, shape):
    path = save(tmp_path / "a.jpg", noise())
    assert decode_photograph(path, wanted).shape[:2] == shape


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_jpeg_has_the_pixels_of_the_decoder_in_the_order_of_rgb(tmp_path, mode):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(noise).resize((320, 240)).convert(mode).save(tmp_path / "a.jpg")
    for wanted, flag in [(320, "COLOR"), (150, "REDUCED_COLOR_2"), (80, "REDUCED_COLOR_4"), (20, "REDUCED_COLOR_8")]:
        expected = cv2.imread(tmp_path / "a.jpg", getattr(cv2, f"IMREAD_{flag}"))[..., ::-1]
        np.testing.assert_array_equal(decode_photograph(tmp_path / "a.jpg", (wanted, wanted // 2)), expected)


def test_a_reduced_and_turned_jpeg_is_still_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", noise(), exif=exif)
    assert decode_photograph(path, (60, 80)).shape == (80, 60, 3)
    assert decode_photograph(path).shape == (320, 240, 3)


def test_names_with_spaces_and_accents_are_read(tmp_path):
    assert read_header(save(tmp_path / "Zürich – été 1.jpg", LEFT_RED)) == (60, 40)


def test_files_that_are_no_photographs_are_refused_with_the_reason(tmp_path):
    (tmp_path / "text.jpg").write_text("not a photograph")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    Image.fromarray(LEFT_RED).save(tmp_path / "a.tiff")
    assert "not an image" in refusal(tmp_path / "text.jpg")
    assert "empty" in refusal(tmp_path / "empty.jpg")
    assert "directory" in refusal(tmp_path / "folder.jpg")
    assert "broken link" in refusal(tmp_path / "link.jpg")
    assert "no such file" in refusal(tmp_path / "none.jpg")
    assert "not an image in any of the formats JPEG" in refusal(tmp_path / "a.tiff")


def test_an_image_larger_than_any_limit_is_refused_by_its_header(tmp_path):
    header = io.BytesIO()
    Image.new("1", (1, 1)).save(header, "PNG")
    data = bytearray(header.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bytes(data))
    with pytest.raises(UndecodableImage, match="million"):
        read_header(tmp_path / "bomb.png")


@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9])
def test_a_truncated_jpeg_is_refused(tmp_path, kept):
    path = save(tmp_path / "a.jpg", noise())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert ("header" if kept < 0.1 else "end-of-image marker is missing") in refusal(path, strict=True)


def test_a_jpeg_without_its_last_two_bytes_is_refused_when_strict(tmp_path):
    path = save(tmp_path / "a.jpg", noise())
    path.write_bytes(path.read_bytes()[:-2])
    assert "end-of-image" in refusal(path, strict=True)


def test_a_truncated_png_is_refused(tmp_path):
    path = save(tmp_path / "a.png", noise())
    path.write_bytes(path.read_bytes()[:-3000])
    assert "truncated" in refusal(path, strict=True)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
@pytest.mark.parametrize("length", [400, 4096])
def test_zeroed_bytes_inside_a_jpeg_are_found_when_strict(tmp_path, options, length):
    path = save(tmp_path / "a.jpg", noise(640, 480), quality=95, **options)
    decode_photograph(path, strict=True)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + length] = bytes(length)
    path.write_bytes(bytes(data))
    reason = refusal(path, strict=True)
    assert reason.startswith("Corrupt JPEG data") or "a run of zeros in the compressed pixels" in reason


def test_looking_for_damage_writes_nothing_to_stderr(tmp_path, capfd):
    data = bytearray(save(tmp_path / "a.jpg", noise(), optimize=True).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    assert find_jpeg_damage(bytes(data)).startswith("Corrupt JPEG data")
    assert capfd.readouterr().err == ""


def test_zeros_in_the_metadata_of_a_jpeg_are_no_damage(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "\0" * 5000
    assert find_jpeg_damage(save(tmp_path / "a.jpg", noise(), exif=exif).read_bytes()) is None


def test_a_flat_white_optimised_jpeg_is_no_damage(tmp_path):
    path = save(tmp_path / "a.jpg", np.full((900, 1200, 3), 255, np.uint8), optimize=True)
    assert find_jpeg_damage(path.read_bytes()) is None


def test_resizing_to_the_same_size_returns_the_image_itself():
    image = noise()
    assert resize_photograph(image, (320, 240)) is image
    assert resize_photograph(image, (64, 96)).shape == (96, 64, 3)
    assert resize_photograph(image, (640, 480)).shape == (480, 640, 3)


@pytest.mark.parametrize("size", [(64, 96), (320, 240), (640, 480)])
def test_resizing_into_an_array_gives_what_resizing_gives(size):
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    batch = np.zeros((3, size[1], size[0], 3), np.uint8)
    assert np.shares_memory(resize_photograph(image, size, batch[1]), batch)
    np.testing.assert_array_equal(batch[1], resize_photograph(image, size))
    assert not batch[0].any() and not batch[2].any()


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (cv2, "imdecode", MemoryError),
        (Image.Image, "getexif", MemoryError),
        (Path, "read_bytes", OSError),
    ],
)
def test_a_photograph_is_not_called_damaged_where_the_machine_ran_short(tmp_path, monkeypatch, owner, name, error):
    """It would be left out of the run, and with it what it shows."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))

    def short(*_):
        raise error(errno.EMFILE, "none left")

    monkeypatch.setattr(owner, name, short)
    with pytest.raises(error):
        decode_photograph(tmp_path / "a.png", strict=True)


def test_opencv_without_memory_says_nothing_about_the_photograph(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    refusal = cv2.error("Insufficient memory")
    refusal.code, refusal.err = cv2.Error.StsNoMem, "Failed to allocate 9 bytes"

    def short(*_):
        raise refusal

    monkeypatch.setattr(cv2, "imdecode", short)
    with pytest.raises(MemoryError, match="Failed to allocate"):
        decode_photograph(tmp_path / "a.png")
