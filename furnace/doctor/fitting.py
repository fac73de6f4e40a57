"""How many images of a batch fit into the memory: a line through the peaks of two sizes, and steps that verify it."""

from collections.abc import Callable, Mapping

LEAST = 2  # images of a process that can be tried: batch norms refuse a single number for each channel
TRIES = 5  # sizes that are tried between one that fits and one that does not
MARGIN = 0.95  # the share of the room that counts: allocators leave gaps


def images_in(room: float, peaks: Mapping[int, float]) -> int | None:
    """Returns about how many images fit.

    The peak of a step is taken for a sum: what networks and optimizers hold, and equal bytes for each image.

    Args:
        room: bytes that there are in all.
        peaks: bytes of a step at its worst moment, by the number of images; the two largest numbers count.

    Returns:
        None where fewer than two sizes are known, or the peaks do not grow.
    """
    if len(peaks) < 2:
        return None
    (small, low), (large, high) = sorted(peaks.items())[-2:]
    each = (high - low) / (large - small)
    if each <= 0 or room == float("inf"):
        return None
    return max(0, int((MARGIN * room - (low - small * each)) / each))


def largest_that_fits(peak_of: Callable[[int], float | None], too_large: int, room: float) -> int | None:
    """Returns the largest number of images for which a step was taken.

    Args:
        peak_of: takes a step of so many images, and returns its peak in bytes, or None if there was no room for it.
        too_large: images for which there was no room.
        room: bytes that there are in all.

    Returns:
        None if there is not even room for the fewest.
    """
    peaks: dict[int, float] = {}
    size = too_large // 2
    while size >= LEAST and len(peaks) < 2:
        if (peak := peak_of(size)) is None:
            too_large = size
        else:
            peaks[size] = peak
        size //= 2
    if not peaks:
        return None
    for _ in range(TRIES):
        fits = max(peaks)
        if too_large - fits < 2:
            break
        guess = images_in(room, peaks) or (fits + too_large) // 2
        guess = min(max(guess, fits + 1), too_large - 1)
        if (peak := peak_of(guess)) is None:
            too_large = guess
        else:
            peaks[guess] = peak
    return max(peaks)
