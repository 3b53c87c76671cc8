"""What a recorded frame takes before anything can be learnt from it, said in numbers before a robot moves: a learner may be too slow for it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

# The share of a learner's time above which the rest is too little for updates.
LARGEST_SHARE = 0.5


class FrameTime:
    """Measures what the base policy takes for the demonstrations' frames."""

    def __init__(self) -> None:
        self._first_s = self._s = 0.0
        self._first_frames = self._frames = 0

    @contextmanager
    def of(self, frames: int) -> Iterator[None]:
        """While so many frames are looked at."""
        began_s = time.perf_counter()
        yield
        self.took(frames, time.perf_counter() - began_s)

    def took(self, frames: int, took_s: float) -> None:
        """So many frames took so long. The first ones are slower than all others, and count only while there are no others."""
        if self._first_frames:
            self._s, self._frames = self._s + took_s, self._frames + frames
        else:
            self._first_s, self._first_frames = took_s, frames

    @property
    def per_frame_s(self) -> float:
        """Seconds; 0 as long as nothing was looked at."""
        return self._s / self._frames if self._frames else self._first_s / max(self._first_frames, 1)

    def report(self, fps: float, device: str, has_cameras: bool, sees_apart: bool) -> None:
        """Warn if a robot delivers frames faster than this machine can look at them and learn.

        Args:
            fps: frames a second of a robot that does not wait.
            device: ``policy.device``.
            has_cameras: smaller pictures would help.
            sees_apart: actor and critics see the cameras through the base policy's backbone, which most frames pass for nothing else. Where every
                frame needs a plan of its own, it is passed all the same.
        """
        share = self.per_frame_s * fps
        if share <= LARGEST_SHARE:
            return
        left = "nothing is left for updates, and episodes wait longer and longer" if share >= 1 else f"{1 - share:.0%} is left for updates"
        remedies = [] if device.startswith("cuda") else ["--policy.device=cuda"]
        remedies += ["smaller pictures"] if has_cameras else []
        remedies += ["--policy.features=state"] if sees_apart else []
        logging.warning(
            f"The base policy takes {1000 * self.per_frame_s:.3g} ms for a frame on {device}, and a robot delivers {fps:g} frames a second: that is "
            f"{share:.0%} of this learner's time; {left}. Use {', or '.join(remedies) or 'a faster machine, or a smaller base policy'}; "
            "docs/hardware.md has what each takes. A simulation waits."
        )
