"""What the action box cuts off: learning must not take other actions for those that were planned and executed without a word."""

import logging

from ..replay.episode import Episode
from ..replay.memory import BASE


class Clipping:
    """Numbers of actions that lie on the border of the box, which is where a number from outside is put. Inside it none comes so far.

    Args:
        most: largest share of the numbers that may be cut off.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._n_numbers = 0
        self._n_cut = {"of ACT's plans": 0, "of the demonstrations' actions": 0}

    def add(self, episode: Episode) -> None:
        """Count an episode's."""
        plans, actions = episode.kept[BASE][:][:, 0], episode.kept["action"][:]
        self._n_numbers += actions.numel()
        for what, values in zip(self._n_cut, (plans, actions), strict=True):
            self._n_cut[what] += int((values.abs() >= 1.0).sum())

    def report(self, dataset: str) -> None:
        """Say how many were cut off, if any were.

        Raises:
            ValueError: more than may be.
        """
        shares = {what: count / max(self._n_numbers, 1) for what, count in self._n_cut.items() if count}
        if not shares:
            return
        words = " and ".join(f"{share:.2%} {what}" for what, share in shares.items())
        text = (
            f"Dataset {dataset}: {words} lie outside the action box, which was made with another dataset or without glitches, and are "
            "cut off at its border."
        )
        if max(shares.values()) > self._most:
            raise ValueError(
                f"{text} Expected at most {self._most:.2%} (policy.clipped_share). Begin again with this dataset and --policy.act_path of the ACT, "
                f"which makes a new box; or accept it: --policy.clipped_share={min(1.2 * max(shares.values()), 1.0):.2g}"
            )
        logging.warning(f"{text} They are taken as if they lay there.")
