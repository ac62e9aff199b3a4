"""The check of a stored clip against its media. The builder and `ivjax data validate` share it."""

from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.video.decode import Video, VideoFacts

# mp4 stores times in whole ticks, so that 29.97 comes back a little off.
_FPS_TOLERANCE = 0.01


def check_media(clip: Clip) -> None:
    """Decodes every frame; raises ClipError if one is missing or the header is wrong about the media."""
    with Video(clip.payload) as media:
        found = media.probe
        _compare(clip, found)
        # One after the other: all frames of a long clip would not fit into memory.
        if any((frame.width, frame.height) != (found.width, found.height) for frame in media.all_frames()):
            raise ClipError("undecodable", "the frames change their size")


def _compare(clip: Clip, found: VideoFacts) -> None:
    """Raises ClipError if the media differ from the header; values of 0 are not compared."""
    for name in ("frames", "width", "height"):
        said, held = getattr(clip, name), getattr(found, name)
        if said and said != held:
            raise ClipError("mismatch", f"the header says {name} {said}, the media have {held}")
    if clip.media == "video" and clip.fps and abs(clip.fps - found.fps) > _FPS_TOLERANCE * clip.fps:
        raise ClipError("mismatch", f"the header says {clip.fps} frames per second, the media {found.fps}")
    if clip.audio and not found.audio:
        raise ClipError("mismatch", "the header says there is sound, the media have none")
