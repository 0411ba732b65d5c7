"""Decoding: depths, colours and orientation come out as 8-bit RGB, as datasets and transformers show them."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import datasets
import fsspec
import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image

from sgnas_zoo.training.data.decoding import decode

MOST = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: 65535}


def pixels(content: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = decode({"bytes": content, "path": None})
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(image, form: str, **options) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits and 1 to 4 channels (grey, grey and alpha, RGB, RGBA), which Pillow does not write."""
    height, width, channels = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    )


def tiff16(values: np.ndarray, order: str, lines: int) -> bytes:
    """A plain TIFF of 16-bit RGB, which Pillow does not write, in strips of so many lines."""
    height, width, channels = values.shape
    strips = [values[top : top + lines].astype(f"{order}u2").tobytes() for top in range(0, height, lines)]
    count, after = len(strips), 8 + 2 + 12 * 10 + 4
    data_at = after + 6 + 8 * count
    offsets = [data_at + sum(map(len, strips[:i])) for i in range(count)]
    lists = struct.pack(f"{order}HHH{2 * count}I", 16, 16, 16, *offsets, *map(len, strips))
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, after), (259, 3, 1, 1), (262, 3, 1, 2),
            (273, 4, count, after + 6 if count > 1 else offsets[0]), (277, 3, 1, channels), (278, 3, 1, lines),
            (279, 4, count, after + 6 + 4 * count if count > 1 else len(strips[0])), (284, 3, 1, 1)]  # fmt: skip
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, number, value in tags:
        packed = struct.pack(f"{order}HH", value, 0) if (kind, number) == (3, 1) else struct.pack(f"{order}I", value)
        directory += struct.pack(f"{order}HHI", tag, kind, number) + packed
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", 8) + directory + bytes(4) + lists + b"".join(strips)


def ramp(bits: int, channels: int) -> np.ndarray:
    return np.linspace(0, MOST[bits], 12 * 10 * channels).round().astype(np.uint16).reshape(10, 12, channels)


@pytest.mark.parametrize("bits", MOST)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_values_of_any_depth_in_a_png_of_16_bits(bits, channels):
    values = ramp(bits, channels)
    colours = values[..., : 3 if channels > 2 else 1] >> bits - 8
    assert np.array_equal(pixels(png16(values)), np.broadcast_to(colours, (10, 12, 3)))


@pytest.mark.parametrize("bits", MOST)
@pytest.mark.parametrize("order", "<>")
def test_values_of_any_depth_in_a_tiff_of_16_bits(bits, order):
    values = ramp(bits, 3)
    for lines in (10, 5, 3):
        assert np.array_equal(pixels(tiff16(values, order, lines)), values >> bits - 8)
    grey = values[..., 0]
    assert np.array_equal(pixels(saved(grey, "TIFF"))[..., 0], grey >> bits - 8)
    assert np.array_equal(pixels(saved(grey, "TIFF", compression="tiff_lzw"))[..., 0], grey >> bits - 8)


def test_true_16_bits_keep_their_high_byte_as_pillow_does():
    values = ramp(16, 3)
    assert np.array_equal(pixels(png16(values)), np.asarray(Image.open(io.BytesIO(png16(values))).convert("RGB")))


@pytest.mark.parametrize("white", [1.0, 1.0003, 255.0, 4095.0, 65535.0])
def test_floats(white):
    shown = pixels(saved(np.linspace(0, white, 80, dtype=np.float32).reshape(8, 10), "TIFF"))
    assert (shown.min(), shown.max()) == (0, 255)
    assert abs(shown.mean() - 127.5) < 1


def test_floats_that_are_no_numbers_are_black():
    values = np.array([[np.nan, np.inf, -np.inf, -1, 0.5, 1]], dtype=np.float32)
    assert pixels(saved(values, "TIFF"))[0, :, 0].tolist() == [0, 0, 0, 0, 128, 255]
    assert not pixels(saved(values[:, :1], "TIFF")).any()


@pytest.mark.parametrize(("values", "shown"), [([0, 1], [0, 1]), ([-5, 255], [0, 255]), ([0, 1 << 17], [0, 128])])
def test_whole_numbers_of_32_bits(values, shown):
    assert pixels(saved(np.array([values], dtype=np.int32), "TIFF"))[0, :, 0].tolist() == shown


def test_one_bit():
    assert set(pixels(saved(Image.new("1", (4, 4), 1), "PNG")).flat) == {255}
    assert set(pixels(saved(Image.new("1", (4, 4), 0), "TIFF")).flat) == {0}


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "PA"])
def test_alpha_is_dropped_as_in_timm(mode):
    image = Image.new("RGBA", (4, 4), (200, 100, 50, 0)).convert("LA" if mode in ("LA", "PA") else mode)
    content = saved(image, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_timm = Image.open(io.BytesIO(content)).convert("RGB")
    assert np.array_equal(pixels(content), np.asarray(by_timm))
    assert pixels(content).any()


FORMATS = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "AVIF": {}, "TIFF": {}, "MPO": {},
           "TIFF packed": {"compression": "tiff_lzw"}}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_the_pipelines_of_transformers_and_datasets_have_it(form, orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(image, form.split()[0], exif=exif, **FORMATS[form])
    shown = pixels(content)
    assert shown.shape == ((6, 9, 3) if orientation < 5 else (9, 6, 3))
    assert np.array_equal(shown, np.asarray(load_image(Image.open(io.BytesIO(content)))))
    by_datasets = datasets.Image(mode="RGB").decode_example({"bytes": content, "path": None})
    assert np.array_equal(shown, np.asarray(by_datasets))


def test_orientation_of_deep_grey():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(ramp(12, 1)[..., 0], "PNG", exif=exif)
    assert np.array_equal(pixels(content)[..., 0], np.rot90(ramp(12, 1)[..., 0] >> 4, -1))


def test_a_broken_tag_does_not_cost_the_image():
    content = saved(Image.new("RGB", (6, 9), (1, 2, 3)), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffnonsense")
    assert pixels(content).shape == (9, 6, 3)


@pytest.mark.parametrize("name", ["a b.png", "a::b.png", "x%41.png", "ü[1]*.png", "file:.png"])
def test_paths_of_any_characters(tmp_path, name):
    (tmp_path / name).write_bytes(saved(Image.new("RGB", (3, 2)), "PNG"))
    assert decode({"bytes": None, "path": str(tmp_path / name)}).size == (3, 2)


def test_addresses_are_opened_by_fsspec():
    with fsspec.open("memory://a.png", "wb") as file:
        file.write(saved(Image.new("RGB", (3, 2)), "PNG"))
    assert decode({"bytes": None, "path": "memory://a.png"}).size == (3, 2)
