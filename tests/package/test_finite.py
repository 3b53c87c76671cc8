"""Numbers that are not finite are found by name, whatever holds them."""

import numpy as np
import pytest
import torch

from lerobot_serl.finite import not_finite

GOOD = {
    "picture": torch.zeros(2, 2, dtype=torch.uint8),
    "flag": torch.tensor([True]),
    "state": torch.zeros(3),
    "action": np.zeros(2, np.float32),
    "count": 3,
    "float": 1.5,
}


def test_what_is_finite_has_no_name():
    assert not_finite(GOOD) is None
    assert not_finite({}) is None


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("hold", [float, np.float32, lambda x: np.array([0.0, x]), lambda x: torch.tensor([[0.0, x]])])
def test_the_first_that_is_not_is_named(number, hold):
    assert not_finite({**GOOD, "bad": hold(number), "later": hold(number)}) == "bad"
