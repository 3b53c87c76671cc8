"""Two scripted experts behind LeRobot's `Teleoperator` interface: `--teleop.type=bi_franka_sim_expert`."""

from typing import Any

from lerobot.teleoperators import Teleoperator
from lerobot.utils import DeviceNotConnectedError

from ..robots.bi_franka_sim_robot import BiFrankaSimRobot, bi_robots
from ..robots.config_bi_franka_sim_robot import SIDES
from ..robots.config_franka_sim_robot import ACTION_KEYS
from ..robots.uncalibrated import Uncalibrated
from .config_bi_franka_sim_expert import BiFrankaSimExpertConfig
from .events import intervention_events
from .franka_sim_expert import GRIPPER_KEY, FrankaSimExpert
from .scripted_takeover import ScriptedTakeover


class BiFrankaSimExpert(Uncalibrated, Teleoperator):
    """One `FrankaSimExpert` at each arm; action keys begin with `left_` and `right_`."""

    config_class = BiFrankaSimExpertConfig
    name = "bi_franka_sim_expert"
    scripted = True  # needs no real time

    def __init__(self, config: BiFrankaSimExpertConfig) -> None:
        super().__init__(config)
        self.config = config
        self._found_robot: BiFrankaSimRobot | None = None
        self._experts: dict[str, FrankaSimExpert] = {}

    @property
    def action_features(self) -> dict[str, type]:
        """The robot's; while none has been found, those of its default control mode."""
        if self._found_robot is None:
            return {f"{side}_{key}": float for side in SIDES for key in ACTION_KEYS["joint"]}
        return self._found_robot.action_features

    @property
    def feedback_features(self) -> dict[str, type]:
        """The grippers': the experts see them, so their wishes count from the takeover on."""
        return {f"{side}_{GRIPPER_KEY}": float for side in SIDES}

    @property
    def is_connected(self) -> bool:
        return self._found_robot is not None

    def connect(self, calibrate: bool = True) -> None:
        """Find the robot, which has to exist but may be connected later; does nothing if it has been found.

        Raises:
            LookupError: this process has no such robot, or several.
        """
        if self.is_connected:
            return
        config = self.config
        robot = bi_robots.find(config.robot_id)
        self._experts = {side: FrankaSimExpert(config.arm_config(side, robot.arms[side].id)) for side in SIDES}
        for expert in self._experts.values():
            expert.connect(calibrate)
        self._takeover = ScriptedTakeover(config.takeover_share, config.takeover_after_s, config.takeover_for_s, config.seed)
        self._found_robot = robot

    def get_action(self) -> dict[str, float]:
        """Return the experts' actions for the arms' present state, within what the arms can carry out.

        Raises:
            DeviceNotConnectedError: `connect` has not been called, here or at the robot.
        """
        self._robot.privileged_observation()  # begins anew if that is due, before either expert looks
        return {f"{side}_{key}": value for side, expert in self._experts.items() for key, value in expert.get_action().items()}

    def get_teleop_events(self) -> dict[str, Any]:
        """Return whether the experts take over now, under LeRobot's `TeleopEvents`; they never end an episode. Ask at every step.

        Raises:
            DeviceNotConnectedError: `connect` has not been called, here or at the robot.
        """
        return intervention_events(self._takeover.is_due(self._robot))

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        """Do nothing: the experts see the simulation."""

    def disconnect(self) -> None:
        """Let go of the robot; calling it again does nothing."""
        self._found_robot = None
        self._experts = {}

    @property
    def _robot(self) -> BiFrankaSimRobot:
        if self._found_robot is None:
            raise DeviceNotConnectedError("BiFrankaSimExpert is not connected. Run `.connect()` first.")
        return self._found_robot
