"""The data's card: what the images of a training are, and what was left out of them or is worth a look."""

import pydantic


class Extent(pydantic.BaseModel):
    """Least, middle and greatest of the images, in pixels."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    least: int
    median: int
    most: int


class LeftOut(pydantic.BaseModel):
    """An image that is not used, and why."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    path: str
    reason: str


class DataCard(pydantic.BaseModel):
    """What the images are. Paths are as the user gave them."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    images: int
    """That are used."""
    classes: dict[str, int]
    """Images by label."""
    bytes: int
    formats: dict[str, int]
    """Images by format, as their bytes say."""
    width: Extent
    height: Extent
    rotated: tuple[str, ...] = ()
    """Images whose EXIF tag says that they are to be turned."""
    wrong_endings: tuple[str, ...] = ()
    """Images whose name ends as another format's does."""
    copies: tuple[LeftOut, ...] = ()
    """Files with the same bytes as another one of the same label, which is used."""
    near_duplicates: tuple[tuple[str, ...], ...] = ()
    """Groups of images that look alike; each group is in one part of the split."""
    alike_across_labels: tuple[tuple[str, ...], ...] = ()
    """The groups that have more than one label: one label may be wrong."""
    left_out: tuple[LeftOut, ...] = ()
    """What `skip_bad` left out."""
    unlabelled: tuple[str, ...] = ()
    """Files in the image folder that no label names."""

    def left_out_by_reason(self) -> dict[str, int]:
        """How many files are in no part of the split, by the reason; without those of which there are none."""
        counts = {
            "that can't be used": len(self.left_out),
            "that are copies of others": len(self.copies),
            "that no label names": len(self.unlabelled),
        }
        return {why: count for why, count in counts.items() if count}
