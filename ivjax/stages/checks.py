"""Sizes that no model can have, said in the names of the experiment's fields."""

from ivjax.errors import UserError
from ivjax.models.internvideo2.encoder import EncoderSize
from ivjax.models.videomae.encoder import VideoMaeSize


def check_encoder(name: str, size: EncoderSize) -> None:
    """Raises if no InternVideo2 encoder has the size `stage.<name>`."""
    check_patches(name, size)
    check_width(name, size.width, {"heads": size.heads, "pool_heads": size.pool_heads, "position codes": 16})


def check_patches(name: str, size: EncoderSize | VideoMaeSize) -> None:
    """Raises if clips do not divide into patches."""
    if size.frames % size.tubelet or any(side % size.patch for side in size.image):
        raise UserError(
            f"stage.{name}: {size.frames} frames of {size.image} do not divide into tubelets of "
            f"{size.tubelet} and patches of {size.patch}; change frames, image, tubelet or patch"
        )


def check_width(name: str, width: int, parts: dict[str, int]) -> None:
    """Raises if a width does not divide into each of the named numbers of parts."""
    for what, count in parts.items():
        if width % count:
            raise UserError(
                f"stage.{name}.width={width} does not divide into {count} {what}; "
                f"choose a multiple of {count}"
            )
