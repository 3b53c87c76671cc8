"""How exactly the parts of an ACT with a camera know where the cube is: the best that critics can learn from them.

``python examples/benchmark/camera_features.py DIR`` with an ACT of the task `pick_cube_camera` (learn.py leaves it in its root, under
`bases`). Shows it the cube at random places, before anything has moved, and lets a network like a critic's learn the place from what each
part gives.
Prints a table and writes it to docs/results/camera_features/cube_error.csv.
"""

import argparse
import csv
from pathlib import Path

import torch
import torch.nn.functional as F
from lerobot.configs import FeatureType, PolicyFeature
from study.base import frozen_policy
from study.tasks import TASKS
from torch import Tensor, nn

from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.replay.episode import policy_input

TASK, FIRST_SEED, TEST, UPDATES, BATCH = TASKS["pick_cube_camera"], 3_000_000, 300, 600, 128
PLACE = "observation.environment_state"
PEAKS_SHARPNESS = 3.0


def look(act_path: Path, count: int) -> tuple[dict[str, Tensor], Tensor]:
    """What each part gives, ``(count, size)``, and the cube's places ``(count, 2)`` in metres."""
    policy = frozen_policy(act_path, TASK.horizon)
    act, inputs, action_dim = policy.agent.act, policy.config.input_features or {}, policy.agent.action_dim
    world = EnvWorld(TASK.env(), inputs, action_dim, FIRST_SEED)
    # The same seeds give the same places.
    truth = EnvWorld(TASKS["pick_cube_ee"].env(), {PLACE: PolicyFeature(FeatureType.ENV, (3,))}, action_dim, FIRST_SEED)
    tokens, maps, rows, places = list[Tensor](), list[Tensor](), list[dict[str, Tensor]](), list[Tensor]()
    act.model.encoder.register_forward_hook(lambda _, __, out: tokens.append(out))
    act.backbone.register_forward_hook(lambda _, __, out: maps.append(out["feature_map"]))
    for _ in range(count):
        _, features = act.plan(policy_input({key: value[None] for key, value in world.reset().items()}), TASK.horizon)
        token, last_map = tokens.pop(), maps.pop()
        decoder, mean_map = normal(features[:, : act.feature_sizes[0]]), normal(last_map.mean((2, 3)))
        mean_token = normal(token[-last_map[0, 0].numel() :].mean(0))
        rows.append({
            "decoder": decoder,
            "decoder and mean of the encoder's tokens": torch.cat([decoder, mean_token], dim=1),
            "decoder and mean of the backbone's map": torch.cat([decoder, mean_map], dim=1),
            "mean of the encoder's tokens": mean_token,
            "mean of the backbone's map": mean_map,
            "peaks of the backbone's map": peaks(last_map),
        })  # fmt: skip
        places.append(truth.reset()[PLACE][:2])
    world.close()
    truth.close()
    return {part: torch.cat([row[part] for row in rows]) for part in rows[0]}, torch.stack(places)


def normal(features: Tensor) -> Tensor:
    """As :class:`lerobot_serl.networks.features.ObservationFeatures` gives them on."""
    return F.layer_norm(features, features.shape[-1:])


def peaks(feature_map: Tensor) -> Tensor:
    """Where each channel is strongest (a spatial softmax): ``(B, C, H, W)`` -> ``(B, 2 C)`` in [-1, 1]."""
    values = feature_map.flatten(2)
    values = (values - values.mean(-1, keepdim=True)) / (values.std(-1, keepdim=True) + 1e-3)
    weights = (PEAKS_SHARPNESS * values).softmax(-1).unflatten(-1, feature_map.shape[-2:])
    y, x = (torch.linspace(-1, 1, size) for size in feature_map.shape[-2:])
    return torch.cat([(weights.sum(3) * y).sum(2), (weights.sum(2) * x).sum(2)], dim=1)


def error_m(features: Tensor, places: Tensor, known: int) -> float:
    """Mean distance on the last ``TEST`` places, after learning from the first ``known``."""
    torch.manual_seed(0)
    mean, std = features[:known].mean(0), features[:known].std(0) + 1e-2
    inputs, centre, spread = (features - mean) / std, places[:known].mean(0), places[:known].std(0)
    layers = [
        nn.Linear(inputs.shape[1], 256),
        nn.LayerNorm(256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.LayerNorm(256),
        nn.ReLU(),
        nn.Linear(256, 2),
    ]
    network = nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    for _ in range(UPDATES):
        index = torch.randint(known, (BATCH,))
        loss = F.mse_loss(network(inputs[index]), (places[index] - centre) / spread)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float((network(inputs[-TEST:]) * spread + centre - places[-TEST:]).norm(dim=1).mean())


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("act", type=Path, help="checkpoint of ACT (pretrained_model)")
    parser.add_argument("--known", type=int, nargs="+", default=[300, 1000], help="how many places are learnt from")
    parser.add_argument("--results", type=Path, default=Path("docs/results/camera_features"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts, places = look(arguments.act, max(arguments.known) + TEST)
    arguments.results.mkdir(parents=True, exist_ok=True)
    with (arguments.results / "cube_error.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["features", "size", "places", "error_mm"])
        for known in arguments.known:
            for part, features in parts.items():
                row = [part, features.shape[1], known, f"{1000 * error_m(features, places, known):.1f}"]
                table.writerow(row)
                print("{:42s} {:5d} numbers, {:5d} places: {} mm".format(*row), flush=True)


if __name__ == "__main__":
    main()
