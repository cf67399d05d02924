"""Images: what `inspect` tells of them, and operation `thumbnail`.

Must not decode before the size is known. Pillow is imported where it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from taskservice.context import StoredFile, TaskContext
from taskservice.handlers.file_processing.failures import BROKEN, too_large, unsupported
from taskservice.handlers.file_processing.parameters import FileProcessingParameters
from taskservice.handlers.file_processing.product import derived_name, new_product, store

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000

IMAGE_FORMATS = ("png", "jpeg", "webp")
READABLE_IMAGES = {
    "image/png": "PNG",
    "image/apng": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/x-icon": "ICO",
}


def image_facts(source: StoredFile, context: TaskContext) -> dict[str, Any]:
    with _opened_image(source, context) as image:
        image.load()
        return _facts(image)


def thumbnail(parameters: FileProcessingParameters, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`{width, height, format}` of the source, and `output`."""
    output = parameters.output or derived_name(parameters, ".png", context)
    wanted = {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}.get(PurePosixPath(output).suffix.lower(), "png")
    with new_product() as product:
        with _opened_image(source, context) as image:
            facts = _facts(image)
            picture = _displayable(image)
            picture.thumbnail((parameters.size_px, parameters.size_px))
            _write(picture, wanted, product)
        return {**facts, "output": store(output, product, context)}


def convert_image(wanted: str, output: str, source: StoredFile, context: TaskContext) -> dict[str, Any]:
    """`{width, height, format}` of the source, and `output`."""
    with new_product() as product:
        with _opened_image(source, context) as image:
            facts = _facts(image)
            _write(_displayable(image), wanted, product)
        return {**facts, "output": store(output, product, context)}


@contextmanager
def _opened_image(source: StoredFile, context: TaskContext) -> Iterator[Image.Image]:
    """Known to be small enough, not decoded yet. What breaks while decoding is the file's fault."""
    from PIL import Image

    pillow_format = READABLE_IMAGES.get(source.mime_type)
    if pillow_format is None:  # Pillow knows more, but some of it runs other programs
        raise unsupported(f"{source.mime_type} is not an image this task can read")
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with context.files.open(source.filename) as content, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content, formats=[pillow_format]) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise too_large(f"an image may have at most {MAX_PIXELS} pixels")
                yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(f"an image may have at most {MAX_PIXELS} pixels") from error
    except (OSError, *BROKEN) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the image
            raise
        raise unsupported(f"{source.filename!r} is a broken image") from error


def _facts(image: Image.Image) -> dict[str, Any]:
    return {"width": image.width, "height": image.height, "format": (image.format or "").lower()}


def _displayable(image: Image.Image) -> Image.Image:
    """A decoded copy that stands upright, in L, RGB or RGBA."""
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode == "CMYK":
        upright.info.pop("icc_profile", None)  # it describes CMYK
    if upright.has_transparency_data:
        return upright.convert("RGBA")
    if upright.mode in ("L", "RGB"):
        return upright
    if upright.mode.startswith("I;16"):  # Pillow would cut off what is brighter than 255
        upright = upright.convert("I").point(lambda value: value * (1 / 256))
    return upright.convert("L" if upright.mode.startswith(("1", "I", "F")) else "RGB")


def _write(picture: Image.Image, wanted: str, product: IO[bytes]) -> None:
    from PIL import Image

    profile = picture.info.get("icc_profile")
    if wanted == "jpeg" and picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    picture.save(product, wanted, icc_profile=profile)
