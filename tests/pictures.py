"""Pictures made from numbers: textured, the same on every machine, and encoded in every accepted format."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Rgb = NDArray[np.uint8]


def textured(seed: int, *, width: int = 480, height: int = 320) -> Rgb:
    """uint8 (height, width, 3): smooth noise of several scales with some ellipses and bars on it.

    Only integers from a seeded PCG64 and elementwise arithmetic, so the values are the same everywhere.
    """
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for cells, weight in ((3, 0.4), (7, 0.25), (17, 0.2), (41, 0.15)):
        picture += weight * _stretched(rng.integers(0, 256, (cells + 1, cells + 1, 3)), width, height)
    y, x = np.mgrid[:height, :width]
    for number in range(6):
        centre_x, centre_y = rng.integers(0, width), rng.integers(0, height)
        half_x, half_y = (int(rng.integers(side // 12, side // 4 + 1)) + 1 for side in (width, height))
        colour = rng.integers(0, 256, 3)
        off_x, off_y = (x - centre_x) / half_x, (y - centre_y) / half_y
        inside = off_x**2 + off_y**2 < 1 if number % 2 else np.maximum(abs(off_x), abs(off_y)) < 0.7
        picture[inside] = 0.3 * picture[inside] + 0.7 * colour
    return picture.astype(np.uint8)


def _stretched(grid: NDArray[Any], width: int, height: int) -> NDArray[np.float64]:
    """A coarse grid (rows, columns, 3) drawn large with linear interpolation."""
    rows, columns, _ = grid.shape
    y, x = (np.arange(n) * ((cells - 1) / n) for n, cells in ((height, rows), (width, columns)))
    top, left = y.astype(int), x.astype(int)
    down, right = (y - top)[:, None, None], (x - left)[None, :, None]
    upper = grid[top][:, left] * (1 - right) + grid[top][:, left + 1] * right
    lower = grid[top + 1][:, left] * (1 - right) + grid[top + 1][:, left + 1] * right
    return upper * (1 - down) + lower * down


def flat(colour: tuple[int, int, int] = (120, 130, 90), *, width: int = 200, height: int = 150) -> Rgb:
    """uint8 (height, width, 3) of one colour."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def encoded(picture: Rgb | Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """The picture in one of Pillow's formats."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def sixteen_bit_grey(picture: Rgb) -> NDArray[np.uint16]:
    """uint16 (height, width): luma over the whole range of 16 bits."""
    return (picture @ np.array([0.299, 0.587, 0.114]) * 257).astype(np.uint16)


def oriented(picture: Rgb, orientation: int) -> bytes:
    """A JPEG whose stored pixels need EXIF `orientation` (1 to 8) to look like `picture`."""
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: p.transpose(1, 0, 2)[::-1],
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
    }[orientation](picture)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(np.ascontiguousarray(stored), "JPEG", quality=95, exif=exif)


def versions(picture: Rgb) -> dict[str, bytes]:
    """The picture in every accepted format and colour mode, losslessly or nearly so."""
    image = Image.fromarray(picture)
    see_through = image.copy()
    see_through.putalpha(245)
    palette = image.quantize(palette=image.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
    grey16 = Image.fromarray(sixteen_bit_grey(picture))
    return {
        "jpeg": encoded(image, "JPEG", quality=90),
        "jpeg progressive": encoded(image, "JPEG", quality=90, progressive=True),
        "jpeg grey": encoded(image.convert("L"), "JPEG", quality=90),
        "jpeg cmyk": encoded(image.convert("CMYK"), "JPEG", quality=90),
        "jpeg rotated": oriented(picture, 6),
        "mpo": encoded(image, "MPO", quality=90, save_all=True, append_images=[image.rotate(180)]),
        "png": encoded(image),
        "png palette": encoded(palette),
        "png grey": encoded(image.convert("L")),
        "png 16 bit": encoded(grey16),
        "png rgba": encoded(see_through),
        "gif": encoded(palette, "GIF"),
        "webp": encoded(image, "WEBP", quality=90),
        "webp lossless": encoded(image, "WEBP", lossless=True),
        "bmp": encoded(image, "BMP"),
        "tiff": encoded(image, "TIFF"),
        "tiff lzw": encoded(image, "TIFF", compression="tiff_lzw"),
        "tiff cmyk": encoded(image.convert("CMYK"), "TIFF"),
        "tiff ycbcr": encoded(image.convert("YCbCr"), "TIFF"),
        "tiff 16 bit": encoded(grey16, "TIFF"),
        "tiff 16 bit big-endian": _big_endian_tiff(sixteen_bit_grey(picture)),
        "tiff 32 bit": encoded(Image.fromarray(sixteen_bit_grey(picture).astype(np.int32)), "TIFF"),
        "tiff float": encoded(Image.fromarray(sixteen_bit_grey(picture).astype(np.float32) / 65535), "TIFF"),
        "avif": encoded(image, "AVIF", quality=90),
    }


def _big_endian_tiff(levels: NDArray[np.uint16]) -> bytes:
    """An uncompressed greyscale TIFF in Motorola byte order, which Pillow reads as I;16B."""
    height, width = levels.shape
    pixels = levels.astype(">u2").tobytes()
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, height)]
    entries = [struct.pack(">HHII", tag, 4, 1, value) for tag, value in [*tags, (279, len(pixels))]]
    directory = struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)
    return b"MM\0*" + struct.pack(">I", 8 + len(pixels)) + pixels + directory


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing: the cheapest of bombs."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
