# SPDX-License-Identifier: Apache-2.0
"""JPEG with what the decoder says of damage.

OpenCV gives a damaged image back as if it were whole, and libjpeg's complaint goes to standard
error, without a name. simplejpeg decodes to the same pixels, to the bit and as fast.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

try:
    import simplejpeg
except ImportError:  # damage inside a JPEG is not noticed then
    simplejpeg = None

JPEG_START = b"\xff\xd8\xff"

# What libjpeg says of data that do not decode to a whole image; and of bytes too many, of which
# webcams add a few to sound images.
_DAMAGE = re.compile(r"Corrupt JPEG data: |Premature end of JPEG file")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_MOST_EXTRANEOUS_BYTES = 16


def decode_jpeg(data: bytes, colours: str) -> tuple[NDArray[np.uint8] | None, str]:
    """Decode a JPEG file as it is stored, and say what is wrong inside.

    Args:
        data: of the file, after its declared size was checked.
        colours: "RGB" or "BGR".

    Returns:
        (H, W, 3) uint8 and libjpeg's complaint, empty where the image is what the camera saw. None
        for what simplejpeg does not decode (CMYK), and where it is not installed: ask OpenCV.
    """
    if simplejpeg is None or not data.startswith(JPEG_START):
        return None, ""
    damage = ""
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colours), np.uint8), ""
    except ValueError as error:
        if _is_damage(str(error)):
            damage = str(error)
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, colours, strict=False), np.uint8), damage
    except ValueError:
        return None, damage


def _is_damage(complaint: str) -> bool:
    """Return whether what libjpeg says means that the image is not what the camera saw."""
    extraneous = _EXTRANEOUS.search(complaint)
    if extraneous is not None:
        return int(extraneous[1]) > _MOST_EXTRANEOUS_BYTES
    return _DAMAGE.match(complaint) is not None
