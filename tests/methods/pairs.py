"""Every method with every generator: small ones of each kind, and the pairs that a method refuses, with its words.

docs/reference.py makes a table of it.
"""

from typing import Any

# Options, and the shape of one input: (C, H, W), or the length of a latent vector.
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "resnet9": ({"ngf": 4, "blocks": 2}, (3, 16, 16)),
    "resnet6": ({"ngf": 4, "blocks": 1, "norm": "batch"}, (3, 16, 16)),
    "mobile_resnet9": ({"ngf": 4, "blocks": 1, "affine": True}, (3, 16, 16)),
    "unet256": ({"ngf": 4, "downs": 5}, (3, 32, 32)),
    "unet128": ({"ngf": 4, "downs": 5, "norm": "batch"}, (3, 32, 32)),
    "incres9": ({"ngf": 12, "blocks": 1, "norm": "batch"}, (3, 16, 16)),
    "pix2pixhd": ({"ngf": 2, "blocks": 1}, (3, 32, 32)),
    "pix2pixhd_local": ({"ngf": 4, "blocks": 1, "local_blocks": 1, "halvings": 1}, (3, 32, 32)),
    "gaugan": ({"in_channels": 3, "ngf": 2, "hidden": 4, "doublings": 5}, (3, 32, 32)),
    "incres_gaugan": ({"in_channels": 3, "ngf": 6, "hidden": 6, "doublings": 5}, (3, 32, 32)),
    "mobile_gaugan": ({"in_channels": 3, "ngf": 2, "doublings": 5}, (3, 64, 64)),
    "cartoongan": ({"ngf": 4, "blocks": 1}, (3, 16, 16)),
    "devicenet": ({"ngf": 4, "blocks": 2}, (3, 16, 16)),
    "rrdb": ({"ngf": 8, "growth": 4, "blocks": 1, "scale": 2}, (3, 16, 16)),
    "srvgg": ({"ngf": 8, "convs": 2}, (3, 16, 16)),
    "sagan": ({"latent": 6, "ngf": 16, "size": 16}, (6,)),
    "stylegan2": ({"latent": 6, "ngf": 4, "size": 16}, (6,)),
}

# What a method refuses, by its name and the generator's, and a part of what it says.
REFUSED: dict[tuple[str, str], str] = {}
