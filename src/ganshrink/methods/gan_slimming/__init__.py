"""GAN Slimming: `gan_slimming.py` is the paper, `config.py` its settings."""

from ganshrink.methods.gan_slimming.config import VARIANTS, GanSlimmingConfig
from ganshrink.methods.gan_slimming.gan_slimming import gan_slimming

__all__ = ["VARIANTS", "GanSlimmingConfig", "gan_slimming"]
