"""What a run writes into its configuration."""

import pytest
from small_policy import small_config

from lerobot_serl.online.auto_settings import settle_run


@pytest.mark.parametrize(("given", "steps", "settled"), [(None, 500, 500), (70, 500, 70), (None, None, None)])
def test_rates_decay_over_the_run_unless_somebody_says_otherwise(given, steps, settled):
    config = small_config(lr_decay_updates=given)
    settle_run(config, steps)
    assert config.lr_decay_updates == settled


def test_a_run_learns_whatever_the_checkpoint_acts_as():
    config = small_config(act_alone=True)
    settle_run(config, 500)
    assert not config.act_alone
