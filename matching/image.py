"""Bytes to pixels, within limits: the one decoder of the project, and thumbnails."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from matching.types import ImageTooLarge, NotAnImage

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""Accepted formats, by Pillow's names. MPO (JPEGs in one file) opens through JPEG and is reported as it."""

DEFAULT_MAX_PIXELS = 64_000_000

THUMBNAIL_QUALITY = 80

# EXIF 2.32, tag 0x0112: what turns the stored pixels upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: `rgb` is upright, of mode RGB, without metadata; `format` is one of `FORMATS`."""

    rgb: Image.Image
    format: str

    @property
    def width(self) -> int:
        """Width in pixels, upright."""
        return self.rgb.width

    @property
    def height(self) -> int:
        """Height in pixels, upright."""
        return self.rgb.height


def decode(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode the first frame of an image: upright, transparency on white, 8-bit RGB.

    Colour profiles are ignored, as every other implementation of these fingerprints does. Deeper greyscale is
    scaled, see `_to_eight_bits`. An EXIF block that cannot be read leaves the picture as it is stored.

    Not for several threads at a time: Pillow's pixel limit and the warning filters are set for the call's
    length.

    Raises ImageTooLarge when the header announces more than `max_pixels` pixels, before any is decoded, or
    when decoding ran out of memory; NotAnImage for everything else that Pillow does not decode completely.
    """
    try:
        with _pillow_limits(max_pixels):
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            image.load()
            turn = _turn(image)
            rgb = _to_rgb(image)
            if turn is not None:
                rgb = rgb.transpose(turn)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooLarge(f"the image has more than {max_pixels:,} pixels") from exc
    except MemoryError as exc:
        raise ImageTooLarge("the image needs more memory to decode than is allowed") from exc
    except Exception as exc:
        # Decoders of hostile bytes fail in every way there is: OSError, SyntaxError, struct.error,
        # KeyError, ...
        raise NotAnImage(f"the bytes do not decode as an image ({_reason(exc)})") from exc
    if not (rgb.width and rgb.height):
        raise NotAnImage("the image has no pixels")
    rgb.info.clear()
    return Picture(rgb=rgb, format="JPEG" if image.format == "MPO" else str(image.format))


def thumbnail(picture: Picture, *, side: int) -> bytes:
    """A JPEG without metadata whose long side is `side` pixels, or the picture's own when that is smaller.

    The short side keeps the proportion and is at least one pixel.
    """
    scale = min(1.0, side / max(picture.width, picture.height))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.rgb.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=THUMBNAIL_QUALITY)
    return buffer.getvalue()


@contextmanager
def _pillow_limits(max_pixels: int) -> Iterator[None]:
    """Make Pillow's own checks (image, TIFF tile, GIF frame) refuse what exceeds `max_pixels`, no less."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata in a good picture is nobody's concern
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings a loaded image upright, None when it is or when its EXIF block cannot be read.

    Only the orientation is read: `ImageOps.exif_transpose` also writes the whole block anew, and fails
    where that does.
    """
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - broken metadata must not cost a good picture
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        on_white = Image.new("RGB", image.size, "white")
        on_white.paste(rgba, mask=rgba)
        return on_white
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float greyscale to mode L; Pillow's `convert` would clip at 255.

    16-bit values run from 0 to 65535. Wider types do not say what white is: it is taken as the smallest of
    1 (floats only), 255 and 65535 that no value exceeds; with values beyond or below zero, the extremes
    become black and white. Values that are no numbers count as 0. A 16-bit PNG's transparent grey level
    becomes white.
    """
    levels = np.asarray(image)
    values = levels.astype(np.float32)
    values[~np.isfinite(values)] = 0
    black, white = 0.0, 65535.0
    if levels.dtype.itemsize > 2:
        low, high = float(values.min()), float(values.max())
        ranges = (1.0, 255.0, 65535.0) if levels.dtype.kind == "f" else (255.0, 65535.0)
        fitting = [top for top in ranges if low >= 0 and high <= top]
        black, white = (0.0, fitting[0]) if fitting else (low, high)
    scale = 255 / ((white - black) or 1)
    values *= np.float32(scale)  # before the shift, which could overflow
    values += np.float32(0.5 - black * scale)
    grey = values.astype(np.uint8)
    if (transparent := image.info.get("transparency")) is not None:
        grey[levels == transparent] = 255
    return Image.fromarray(grey)


def _reason(exc: Exception) -> str:
    """Pillow's words, without the address of our buffer and short enough for an answer."""
    if isinstance(exc, UnidentifiedImageError):
        return "no accepted format: " + ", ".join(FORMATS)
    return f"{type(exc).__name__}: {exc}"[:200]
