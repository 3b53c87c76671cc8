"""Settings that the run or the demonstrations decide: the one place that writes into a configuration what its user left open."""

import logging
import statistics

import torch

from ..policy.agent import LARGEST_AUTO_REACH, SMALLEST_AUTO_REACH, Agent
from ..policy.configuration_serl_sac import SerlSacConfig
from ..replay.demonstrations import EpisodeReader

# Of an episode as long as the median demonstration: its success is worth so much at its start.
VALUE_AT_START = 0.4


def settle_run(config: SerlSacConfig, steps: int | None) -> None:
    """What a run that begins to learn has otherwise than the policy that it begins with.

    Args:
        config: ``lr_decay_updates`` is filled in, and ``act_alone`` is over.
        steps: of the run; None: nobody knows.
    """
    if config.lr_decay_updates is None:
        config.lr_decay_updates = steps
    if config.act_alone:
        logging.info("The checkpoint acts as ACT alone (policy.act_alone=true); this run goes on from what it had learnt.")
        config.act_alone = False


def decide_from_data(config: SerlSacConfig, reader: EpisodeReader, agent: Agent) -> bool:
    """Fill in the settings that are still "auto", and say so; checkpoints keep what was decided.

    Args:
        config: ``discount``, ``value_range``, ``actor.edit_scale`` and ``online.takeover_is_failure`` are written if they are None.
        reader: of the demonstrations.
        agent: gets the reach of its edits.

    Returns:
        whether rewards of other kinds than the demonstrations' would now be wrong.
    """
    table = reader.label_table
    logging.info("\n".join(table.lines()))
    if table.warning is not None:
        logging.warning(table.warning)
    if config.discount is None:
        median = statistics.median(reader.lengths)
        config.discount = round(VALUE_AT_START ** (1.0 / median), 5)
        logging.info(f"discount=auto: {config.discount} (median demonstration of {median:.0f} steps)")
    range_is_guessed = config.value_range is None and reader.binary_rewards and config.backup_entropy == "none"
    if range_is_guessed:
        config.value_range = (0.0, 1.0)
        logging.info("value_range=auto: targets are clipped to [0, 1], as rewards are 0 or 1 and only the end of an episode pays")
    if config.actor.edit_scale is None:
        _decide_reach(config, reader, agent)
    if config.online.takeover_is_failure is None:
        config.online.takeover_is_failure = reader.binary_rewards
        if config.online.enabled:
            meaning = "a takeover counts as" if reader.binary_rewards else "rewards are not only 0 and 1, so a takeover is not"
            logging.info(f"online.takeover_is_failure=auto: {meaning} a failure of the policy's steps before it")
    return range_is_guessed


def _decide_reach(config: SerlSacConfig, reader: EpisodeReader, agent: Agent) -> None:
    """An edit as large as what the action does in a step: small where actions are places, large where they are motions.

    One bound for all entries: with one for each, those that hardly move were held too tight (docs/algorithm.md).
    """
    change = float((torch.from_numpy(reader.action_change).float() / agent.box.half_width.cpu()).mean())
    scale = round(min(max(change, SMALLEST_AUTO_REACH), LARGEST_AUTO_REACH), 3)
    config.actor.edit_scale = scale
    agent.set_reach((scale,))
    logging.info(
        f"actor.edit_scale=auto: {scale:g} of half the action's range (from step to step the demonstrations change by {change:.3f})"
    )
