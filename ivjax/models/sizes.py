"""Protocols of the sizes of models, and the checks that they share. Imports no jax: configs load sizes."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.rules import Rules

Grid = tuple[int, int, int]  # patches along time, height and width
Compared = Literal["video", "audio", "both"]  # what of a clip a text is compared with


class ModelSize(Protocol):
    """A frozen dataclass that shapes a model."""

    @property
    def grid(self) -> Grid | None:
        """The patch grid that position tables of weight files are resized to; None without one."""
        ...

    @property
    def rules(self) -> Rules:
        """Rules of the model's parameters."""
        ...

    def build(self, compute: Compute) -> Any:
        """Returns the model: `.size`, and `.init(key)` for fresh parameters."""
        ...

    def encoders(self) -> "Mapping[str, VideoTowerSize]":
        """The video towers inside it that can stand alone, by branch of the parameter tree."""
        ...


class ComposedSize(ModelSize, Protocol):
    """The size of a model with video towers inside it."""

    def trains_pooling(self) -> bool:
        """Whether what its video tower pools takes part in the loss: otherwise nobody trains the pooling."""
        ...


class VideoTowerSize(ModelSize, Protocol):
    """The size of a video tower. All towers number patches time-major: time, then row, then column.

    A tower keeps its blocks in one stack, the branch `blocks` of its parameters. One that does not can be
    trained and probed, but not with its last blocks alone (`stage.probe.open_blocks`).
    """

    @property
    def grid(self) -> Grid:
        """The patch grid: every video tower has one."""
        ...

    @property
    def width(self) -> int:
        """Channels of a token."""
        ...

    @property
    def depth(self) -> int:
        """Blocks."""
        ...

    @property
    def frames(self) -> int:
        """Frames of the clips that it reads."""
        ...

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of a frame."""
        ...

    @property
    def tubelet(self) -> int:
        """Frames of one patch."""
        ...

    @property
    def patch(self) -> int:
        """Side of one patch."""
        ...

    @property
    def patches(self) -> int:
        """Patches of one clip."""
        ...

    @property
    def class_tokens(self) -> int:
        """Tokens that go before the patches."""
        ...

    @property
    def pool_branches(self) -> tuple[str, ...]:
        """Branches of the parameters that belong to the pooling alone."""
        ...

    @property
    def pool_attends(self) -> bool:
        """Whether the pooling tells the weight of each token."""
        ...

    @property
    def out(self) -> int | None:
        """Numbers of the pooled feature of a clip; None for a tower that pools nothing."""
        ...

    @property
    def reads_images(self) -> bool:
        """Whether a single frame is a clip too."""
        ...

    @property
    def takes_keys(self) -> bool:
        """Whether it computes something else in training: it has dropout, or norms by the batch."""
        ...

    @property
    def running(self) -> tuple[str, ...]:
        """Paths of the running statistics of its batch norms."""
        ...

    def build(self, compute: Compute, taps: tuple[int, ...] = ()) -> Any:
        """Returns the VideoTower; `taps` are the blocks whose output `encode` returns as well."""
        ...

    def flops(self, patches: int | None = None) -> dict[str, float]:
        """Forward FLOPs per clip on so many visible patches (None: all), by layer."""
        ...

    def check(self, name: str) -> None:
        """Raises if the size is impossible; `name` is its path in the experiment."""
        ...


class TextTowerSize(ModelSize, Protocol):
    """The size of a text tower."""

    @property
    def width(self) -> int:
        """Channels of a token."""
        ...

    @property
    def out(self) -> int:
        """Numbers of the embedding of a text."""
        ...

    @property
    def context(self) -> int:
        """Tokens of a text."""
        ...

    @property
    def vocabulary(self) -> int:
        """Token ids are below it."""
        ...

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per text, by layer."""
        ...

    def check(self, name: str) -> None:
        """Raises if the size is impossible; `name` is its path in the experiment."""
        ...


class AudioTowerSize(ModelSize, Protocol):
    """The size of an audio tower."""

    @property
    def width(self) -> int:
        """Channels of a token."""
        ...

    @property
    def frames(self) -> int:
        """Frames of a sound's filter bank."""
        ...

    @property
    def bins(self) -> int:
        """Frequencies of a frame."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens of a sound."""
        ...

    def flops(self) -> dict[str, float]:
        """Forward FLOPs per sound, by layer."""
        ...

    def check(self, name: str) -> None:
        """Raises if the size is impossible; `name` is its path in the experiment."""
        ...


class BridgeSize(Protocol):
    """The size of a bridge.

    A video of F frames is read in segments of the tower's own number of frames. `grid` is the patch grid of
    one segment. Patches that last several frames count as one frame here.
    """

    @property
    def width(self) -> int:
        """Channels of the tower's tokens."""
        ...

    @property
    def out(self) -> int:
        """Channels of the language model's tokens."""
        ...

    @property
    def rules(self) -> Rules:
        """Rules of the bridge's parameters."""
        ...

    @property
    def clip_frames(self) -> int | None:
        """Frames that a token can come from; None: all those of a video."""
        ...

    def tokens(self, frames: int, grid: Grid) -> int:
        """Visual tokens that a video of so many frames becomes."""
        ...

    def unmerged(self) -> "BridgeSize | None":
        """The size without merging, of the same parameters; None where there is none to leave out."""
        ...

    def joined_frames(self, frames: int, segment: int) -> int:
        """Frames whose tokens meet, of a video of so many frames in segments of `segment`.

        Between such groups a video may be cut: its visual tokens are those of the pieces.
        """
        ...

    def build(self, compute: Compute) -> Any:
        """Returns the Bridge."""
        ...

    def flops(self, frames: int, grid: Grid) -> float:
        """Forward FLOPs per video of so many frames."""
        ...

    def check(self, name: str, vision: VideoTowerSize) -> None:
        """Raises if the bridge at `stage.<name>` cannot stand behind the tower."""
        ...


class PatchGrid:
    """The patch grid of a size with frames, image, tubelet and patch; and what most towers have none of."""

    frames: int
    image: tuple[int, int]
    tubelet: int
    patch: int

    @property
    def grid(self) -> Grid:
        """Patches along time, height and width."""
        height, width = self.image
        return self.frames // self.tubelet, height // self.patch, width // self.patch

    @property
    def patches(self) -> int:
        """Patches of one clip, without class tokens."""
        times, rows, columns = self.grid
        return times * rows * columns

    @property
    def reads_images(self) -> bool:
        """Whether a single frame is a clip too."""
        return self.frames == 1

    @property
    def takes_keys(self) -> bool:
        """Whether it computes something else in training."""
        return False

    @property
    def running(self) -> tuple[str, ...]:
        """Paths of the running statistics of its batch norms."""
        return ()


def check_patches(name: str, size: Any) -> None:
    """Raises if clips do not divide into patches."""
    # Strict, where a convolution would drop the rest at the border without a word.
    if size.frames % size.tubelet or any(side % size.patch for side in size.image):
        raise UserError(
            f"stage.{name}: {size.frames} frames of {size.image} do not divide into tubelets of "
            f"{size.tubelet} and patches of {size.patch}; change frames, image, tubelet or patch"
        )


def check_width(name: str, width: int, divisors: Mapping[str, int]) -> None:
    """Raises if a width is no multiple of each of the named numbers."""
    for what, count in divisors.items():
        if width % count:
            raise UserError(
                f"stage.{name}.width={width} does not divide into {count} {what}; "
                f"choose a multiple of {count}"
            )


def tapped_layers(
    depth: int, count: int, interval: float = 1.0, chosen: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """`count` of `depth` layers, ascending: those `chosen`, or the last one and back by `interval`."""
    layers = chosen
    if layers is None:
        # int() cuts as in the originals: 6 layers at 3.34 of the 40 of a 1B teacher
        # are 23, 26, 29, 33, 36 and 39.
        layers = tuple(sorted({depth - 1 - int(i * interval) for i in range(count)}))
    # The originals check no range: a layer below 0, or one that is met twice,
    # would silently train fewer heads.
    if len(layers) != count or any(a >= b for a, b in zip((-1, *layers), (*layers, depth), strict=True)):
        how = f"at interval {interval}" if chosen is None else f"chosen as {chosen}"
        raise ValueError(f"{count} layers {how} do not fit {depth} layers")
    return layers
