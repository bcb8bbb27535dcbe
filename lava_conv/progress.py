"""How long-running work reports progress: every `progress` argument of the package is a `Progress`."""

from typing import Protocol


class Progress(Protocol):
    """Called after each part of the work with how much is done and how much there is; its result is not used.

    The unit (images, time steps, layers) is that of the work. The last call has done == total unless the work ends
    early.
    """

    def __call__(self, done: int, total: int, /) -> object:
        """Note that `done` of `total` are done."""
        ...


def within(progress: Progress | None, before: int, total: int) -> Progress | None:
    """The progress of a part of the work, counted from `before` on, out of the `total` of the whole.

    Args:
        progress: of the whole; None stays None.
        before: how much is done when the part begins.
        total: how much there is in all; what the part itself gives as its total is not used.
    """
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
