"""lerobot-serl-push: put a dataset, such as the one that practice appends to, on the Hugging Face Hub, with a page that says what it is."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lerobot.datasets import LeRobotDatasetMetadata

CARD = "README.md"
NEWEST = Path("checkpoints") / "last" / "pretrained_model" / "train_config.json"


class CannotPushError(RuntimeError):
    """In a sentence."""


def build_parser() -> argparse.ArgumentParser:
    """The command line of lerobot-serl-push."""
    parser = argparse.ArgumentParser(
        prog="lerobot-serl-push",
        description="Upload a LeRobotDataset to the Hugging Face Hub in one commit, with a page that tells task, robot, episodes and success over "
        "time. A learner may go on appending to it meanwhile: what it holds when the upload begins is uploaded.",
        epilog="Anyone takes it with LeRobot's own commands: --dataset.repo_id=OWNER/NAME.",
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN_OR_DATASET", help="output directory of a run, whose online dataset it is, or a dataset's"
    )
    parser.add_argument("--repo_id", required=True, metavar="OWNER/NAME", help="on the Hub; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make it visible to its owner alone, if it is made")
    parser.add_argument("--license", default="apache-2.0", help="as the Hub names it (default: apache-2.0)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Push, and print where it is.

    Returns:
        0 on success; 1 with a sentence on stderr otherwise.
    """
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    try:
        print(push(arguments.path, arguments.repo_id, arguments.private, arguments.license))
    except (CannotPushError, ValueError, RuntimeError, OSError) as error:
        print(f"lerobot-serl-push: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lerobot-serl-push: interrupted; nothing was committed.", file=sys.stderr)
        return 1
    return 0


def push(path: Path, repo_id: str, private: bool = False, license_id: str = "apache-2.0") -> str:
    """Upload a run's online dataset, or a dataset.

    Returns:
        its address.

    Raises:
        CannotPushError: there is no dataset, or the Hub does not take it.
        ValueError, RuntimeError, OSError: the dataset cannot be read.
    """
    from lerobot_serl.checkpoint.place import may_be_hub_id
    from lerobot_serl.replay.snapshot import snapshot

    if not may_be_hub_id(repo_id):
        raise CannotPushError(f"--repo_id={repo_id}: expected OWNER/NAME, with letters, digits, '-', '_' and '.'.")
    root, made_by = find_dataset(path)
    with snapshot(root) as still:
        meta = write_card(still, repo_id, license_id, made_by)
        return upload(still, meta, private)


def find_dataset(path: Path) -> tuple[Path, str]:
    """The dataset's directory, and the command that made it, as far as the run says.

    Raises:
        CannotPushError: there is none.
    """
    from lerobot_serl.replay.json_file import UnreadableError, read_json
    from lerobot_serl.replay.store import dataset_root
    from lerobot_serl.report.metrics_files import MetricsDirectory

    if (path / "meta" / "info.json").is_file() or not path.exists():
        return path, ""
    try:
        document = read_json(path / NEWEST)
        online = document["policy"]["online"]
        repo_id, root = online["repo_id"], online["root"]
    except (UnreadableError, KeyError, TypeError) as error:
        raise CannotPushError(
            f"{path} is neither a dataset (no meta/info.json) nor a run with a checkpoint ({NEWEST}: {error}). Name the dataset's directory."
        ) from error
    if repo_id is None:
        raise CannotPushError(f"{path} is an offline run: it collected no episodes (policy.online.repo_id is empty).")
    return dataset_root(repo_id, root), str(MetricsDirectory(path).read_run_info().get("command", ""))


def write_card(root: Path, repo_id: str, license_id: str, made_by: str) -> LeRobotDatasetMetadata:
    """Write the page into the dataset's directory, in the place of an older one; returns what the dataset says of itself."""
    from lerobot.datasets import LeRobotDatasetMetadata

    from lerobot_serl.replay.dataset_card import dataset_card, outcomes
    from lerobot_serl.replay.opening import explained

    with explained(root):
        meta = LeRobotDatasetMetadata(repo_id, root=root)
    (root / CARD).unlink(missing_ok=True)  # never written through: it may be a link to the dataset's own
    (root / CARD).write_text(str(dataset_card(meta, outcomes(root), license_id, made_by)), encoding="utf-8")
    return meta


def upload(root: Path, meta: LeRobotDatasetMetadata, private: bool) -> str:
    """One commit, and the tag by which LeRobot finds it.

    Raises:
        CannotPushError: the Hub cannot be reached, or refuses.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, RevisionNotFoundError
    from lerobot.datasets import CODEBASE_VERSION

    hub, repo_id = HfApi(), meta.repo_id
    try:
        hub.create_repo(repo_id, private=private or None, repo_type="dataset", exist_ok=True)
        message = f"{meta.total_episodes} episodes, by lerobot-serl-push"
        hub.upload_folder(repo_id=repo_id, folder_path=root, repo_type="dataset", commit_message=message)
        with suppress(RevisionNotFoundError):  # its first one
            hub.delete_tag(repo_id, tag=CODEBASE_VERSION, repo_type="dataset")
        hub.create_tag(repo_id, tag=CODEBASE_VERSION, repo_type="dataset")
    except LocalTokenNotFoundError as error:
        raise CannotPushError("The Hub wants to know who you are: hf auth login, or set HF_TOKEN.") from error
    except OfflineModeIsEnabled as error:
        raise CannotPushError("HF_HUB_OFFLINE=1 keeps this machine off the Hub: unset it.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = " Is the token in HF_TOKEN valid, and may it write there?" if status in (401, 403) else ""
        raise CannotPushError(f"The Hub refused {repo_id}: {error.server_message or error} (status {status}).{remedy}") from error
    except httpx.HTTPError as error:
        raise CannotPushError(f"The Hub at {hub.endpoint} cannot be reached: {error or type(error).__name__}.") from error
    return f"{hub.endpoint}/datasets/{repo_id}"


if __name__ == "__main__":
    sys.exit(main())
