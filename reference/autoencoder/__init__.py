"""The picture autoencoder of the small models: 8× down, one frame at a time.

The full-size model uses SVD's own autoencoder; a small model needs one that two CPU cores decode
in a few milliseconds and that does not squeeze a 128² person through four channels.
"""

from __future__ import annotations

from reference.autoencoder.model import Autoencoder, AutoencoderConfig

__all__ = ["Autoencoder", "AutoencoderConfig"]
