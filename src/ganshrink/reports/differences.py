"""Where a student's picture differs from its teacher's, as a picture."""

import base64
import io
from binascii import Error

TIMES = 4  # by which differences are brightened: one of a fourth of white is white


def difference(first: str | None, second: str | None) -> str | None:
    """The largest difference of any channel at each pixel of two `data:` URIs, grey, as another; None where there are not
    two pictures of one size."""
    from PIL import Image, ImageChops

    try:
        a, b = (
            Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))
            for uri in (first or "", second or "")
        )
        if a.size != b.size:
            return None
        channels = ImageChops.difference(a.convert("RGB"), b.convert("RGB")).split()
    except (OSError, Error, IndexError):
        return None
    most = ImageChops.lighter(ImageChops.lighter(channels[0], channels[1]), channels[2])
    file = io.BytesIO()
    most.point(lambda level: min(255, TIMES * level)).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
