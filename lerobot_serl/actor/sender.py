"""Sends the outbox's episodes, oldest first, in a thread of its own, until each is acknowledged."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..replay.episode_message import parts_before
from ..replay.image_parts import ImageParts
from ..replay.journal import DamagedFileError, uuid_of
from .client import LearnerClient
from .outbox import OnlineDataset, Outbox
from .rpc_errors import EpisodeRefused, LearnerAway, LearnerFinished, LearnerRefused, NamePatience

FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 1.0
POLL_S = 0.2
TELL_EVERY_S = 30.0
# Episodes of this process refused in a row: after so many, what is collected is of no use, and the arm moves for nothing.
MOST_REFUSED = 3


class UnsavedError(OSError):
    """An episode could not be written to the outbox; it is in memory, and writing it is tried again and again."""


@dataclass(eq=False)
class _Unsaved:
    dataset: OnlineDataset
    uuid: str
    data: bytes
    parts: ImageParts | None = None
    refused: str = ""


class Sender:
    """Delivers the episodes of an outbox to the learner that it was filled for.

    Args:
        outbox: of this actor process.
        client: connected.
        is_throttled: whether this is a simulation: the learner may then hold acknowledgements back.

    Attributes:
        problem: why nothing is sent any more, if so.
    """

    def __init__(self, outbox: Outbox, client: LearnerClient, is_throttled: Callable[[], bool] = lambda: False) -> None:
        self._outbox = outbox
        self._client = client
        self._is_throttled = is_throttled
        self._changed = threading.Condition()
        self._unsaved: list[_Unsaved] = []
        self._save_again_s = 0.0
        self._open: set[str] = set()
        self._refused = 0
        self._closed = threading.Event()
        self._name = NamePatience()
        self.problem: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    @property
    def waiting(self) -> int:
        """Episodes for the learner's present dataset that it has not acknowledged."""
        return len(self._outbox.pending(self._client.dataset)) + len(self._unsaved)

    @property
    def unsaved(self) -> int:
        """Episodes that are in memory alone."""
        return len(self._unsaved)

    def start(self) -> None:
        """Begin with what an earlier process left."""
        self._thread.start()

    def keep(self, dataset: OnlineDataset, uuid: str, data: bytes, parts: ImageParts | None = None) -> None:
        """Take an episode over: on return it is on disk, and on its way.

        Raises:
            UnsavedError: it is in memory alone. Collect no further.
        """
        with self._changed:
            self._open.add(uuid)
        try:
            self._outbox.write(dataset, uuid, data, parts)
        except OSError as error:
            with self._changed:
                self._unsaved.append(_Unsaved(dataset, uuid, data, parts))
            message = (
                f"The last episode could not be written to the outbox {self._outbox.directory}: {error}. Make room there, or the directory "
                "writable. The episode is in memory; writing and sending it goes on."
            )
            logging.error(message)  # at once: what follows may take minutes
            raise UnsavedError(message) from error
        finally:
            with self._changed:
                self._changed.notify_all()

    def wait_for(self, uuid: str, go_on: Callable[[], bool]) -> bool:
        """Whether an episode has been acknowledged, or refused; waits while ``go_on``."""
        with self._changed:
            while uuid in self._open and go_on():
                self._changed.wait(POLL_S)
            return uuid not in self._open

    def finish(self, patience_s: float, unsaved_patience_s: float) -> None:
        """Let it come to its end, before the client is closed; write what could not be written. Ctrl-C ends the wait.

        Args:
            patience_s: for what can be sent now.
            unsaved_patience_s: for episodes that are in memory alone.
        """
        started_s = told_s = time.monotonic()
        try:
            while (waited_s := time.monotonic() - started_s) < (unsaved_patience_s if self._unsaved else patience_s):
                self._save()
                sending = self._client.reachable and self.problem is None and not self._client.finished.is_set()
                if not self._unsaved and not (sending and self.waiting):
                    break
                if self._unsaved and time.monotonic() - told_s > TELL_EVERY_S:
                    told_s = time.monotonic()
                    logging.warning(
                        f"{self.unsaved} episodes are in memory alone, trying for {unsaved_patience_s - waited_s:.0f} s more to write them "
                        f"to {self._outbox.directory} or to send them. Ctrl-C gives them up."
                    )
                with self._changed:
                    self._changed.wait(POLL_S)
        except KeyboardInterrupt:
            logging.info("Interrupted again: not waiting for the learner.")
        self._closed.set()
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, after the client was closed."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        while not self._closed.is_set():
            try:
                sent = self._send_next()
                backoff_s = FIRST_BACKOFF_S
            except LearnerFinished:
                self._client.finished.set()
                sent = False
            except LearnerRefused as error:
                self.problem, sent = error, False
            except LearnerAway as error:
                self.problem, sent = self._name.after(error), False
                backoff_s = min(2 * backoff_s, LONGEST_BACKOFF_S)
            with self._changed:
                self._changed.notify_all()
                if not sent:
                    self._changed.wait(backoff_s)

    def _save(self) -> None:
        """Try once more what could not be written, at most once a second."""
        if time.monotonic() < self._save_again_s:
            return
        self._save_again_s = time.monotonic() + LONGEST_BACKOFF_S
        for episode in list(self._unsaved):
            try:
                self._outbox.write(episode.dataset, episode.uuid, episode.data, episode.parts)
            except OSError:
                return
            logging.info("The episode that was in memory alone is in the outbox now.")
            self._forget(episode)

    def _send_next(self) -> bool:
        """Whether there was one to send."""
        client = self._client
        if self.problem is not None or client.finished.is_set() or not client.reachable:
            return False
        dataset = client.dataset
        for path in self._outbox.pending(dataset):
            self._send_file(path)
            return True
        for episode in [each for each in self._unsaved if each.dataset == dataset and not each.refused]:
            self._send_memory(episode)
            return True
        return False

    def _send_file(self, path: Path) -> None:
        data = self._outbox.read(path)
        if data is not None:
            try:
                if n_parts := parts_before(data):
                    with self._outbox.parts(path, n_parts) as parts:
                        self._send_parts(uuid_of(path), parts)
                self._client.send(uuid_of(path), data, self._is_throttled())
            except DamagedFileError as error:
                self._outbox.damaged(path, str(error))
            except EpisodeRefused as error:
                self._outbox.refuse(path, str(error))
                self._count_refused(uuid_of(path), error)
            else:
                self._name.after(None)
                self._refused = 0
                self._outbox.acknowledge(path)
        self._settle(uuid_of(path))

    def _send_parts(self, uuid: str, parts: ImageParts) -> None:
        """Those that the learner does not have: its answer to the first one tells which."""
        sent = 0
        while sent < len(parts):
            there = self._client.send(uuid, parts.read(sent), wait_for_learner=False)
            if there <= sent:
                raise LearnerAway(f"the learner has {there} parts of an episode, of which it had {sent}")
            sent = there

    def _send_memory(self, episode: _Unsaved) -> None:
        try:
            if episode.parts is not None:
                self._send_parts(episode.uuid, episode.parts)
            self._client.send(episode.uuid, episode.data, self._is_throttled())
        except EpisodeRefused as error:
            episode.refused = str(error)
            logging.warning(f"The learner refused the episode that is in memory alone: {error}")
        else:
            logging.info("The episode that was in memory alone has arrived.")
            self._forget(episode)
        self._settle(episode.uuid)

    def _count_refused(self, uuid: str, error: EpisodeRefused) -> None:
        """What an earlier process left does not count: it says nothing about what is collected now."""
        self._refused += uuid in self._open
        if self._refused >= MOST_REFUSED:
            self.problem = LearnerRefused(
                f"The learner refused {self._refused} episodes in a row, the last one because of: {error}. They are kept in the outbox's 'refused'."
            )

    def _forget(self, episode: _Unsaved) -> None:
        """It is in the outbox, or has arrived; perhaps both, then it is sent again, which is harmless."""
        with self._changed:
            self._unsaved = [each for each in self._unsaved if each is not episode]

    def _settle(self, uuid: str) -> None:
        with self._changed:
            self._open.discard(uuid)
            self._changed.notify_all()
