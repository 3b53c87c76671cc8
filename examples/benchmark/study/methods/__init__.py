"""Ways to learn, by the name that a plan calls them."""

from collections.abc import Callable

from ..run import Run
from .filtered_bc import filtered_bc
from .lerobot_sac import lerobot_sac
from .naive import naive
from .serl import fine_tune, from_scratch, frozen_act

METHODS: dict[str, Callable[[Run], None]] = {
    "frozen_act": frozen_act,
    "filtered_bc": filtered_bc,
    "serl_sac": fine_tune,
    "from_scratch": from_scratch,
    "lerobot_sac": lerobot_sac,
    "naive": naive,
}
