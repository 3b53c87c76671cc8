"""Which weights the episodes as deployed favour, and whether they are better than ACT."""

import pytest
import torch
from small_data import make_recording
from small_policy import small_agent, small_config

from lerobot_serl.online.best_weights import Kept
from lerobot_serl.online.evidence import BETWEEN_COPIES, LEVEL, BestPolicy, Candidate, Evidence, Tally, better
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.episode import ACTED_AS, ActedAs

WINDOW = 40


class Practice:
    """Evidence on an agent whose weights say how many episodes they have seen."""

    def __init__(self, learnt=True):
        self.config = small_config()
        self.agent, self.progress = small_agent(self.config), Progress(self.config)
        if not learnt:
            torch.nn.init.zeros_(self.agent.actor.head.weight)
            torch.nn.init.zeros_(self.agent.actor.head.bias)
        self.evidence = Evidence(WINDOW, self.agent, self.progress)
        self.learns = learnt

    def run(self, pattern, acted_as=ActedAs.DEPLOYED, learning=True):
        recordings = {success: make_recording(success=success == "1", info={ACTED_AS: acted_as.value}) for success in "01"}
        for success in pattern:
            if self.learns:
                self.progress.updates += 1
                with torch.no_grad():
                    self.agent.actor.head.bias += 1
            self.evidence.episode(recordings[success], learning)
        return self

    @property
    def best(self):
        return self.evidence.best_policy()


def candidate(successes, trials):
    return Candidate(Kept({}, 100), before=Tally(successes, trials))


@pytest.mark.parametrize(
    ("more", "less"),
    [((38, 40), (10, 10)), ((19, 20), (5, 5)), ((36, 40), (9, 10)), ((40, 40), (10, 10)), ((1, 10), (0, 0))],
)
def test_weights_with_less_evidence_are_not_preferred(more, less):
    """Ten of ten says less than 38 of 40: whoever tries often enough has ten in a row."""
    for one, other in ((more, less), (less, more)):
        chosen = better(candidate(*one), candidate(*other))
        assert (chosen.tally.successes, chosen.tally.trials) == more
    assert better(None, candidate(*less)).tally == Tally(*less)


def test_of_two_alike_the_newer_one_is_taken():
    old, new = candidate(18, 20), candidate(18, 20)
    assert better(old, new) is new


def test_a_run_prefers_the_copy_with_more_evidence_to_a_later_lucky_one():
    """40 successes around one copy; then a bad stretch; then a copy whose few episodes all succeeded."""
    best = Practice().run("1" * 40 + "0" * 20 + "1" * 12).best
    assert best.candidate.tally == Tally(40, 40)
    assert best.candidate.kept.learnt_updates == 20
    assert best.candidate.kept.tensors["actor.head.bias"][0] != Practice().agent.actor.head.bias[0]


def test_a_copy_counts_the_episodes_just_before_and_just_after_it():
    evidence = Practice().run("0" * 5 + "1" * 10 + "0" * 10).evidence
    assert (evidence.best.before, evidence.best.after) == (Tally(0, 5), Tally(10, 20))  # the copy after five; it is complete
    assert [(copy.before, copy.after.trials) for copy in evidence.open] == [
        (Tally(5, 10), 15), (Tally(10, 15), 10), (Tally(10, 20), 5), (Tally(10, 20), 0)
    ]  # fmt: skip


def test_nothing_is_said_before_episodes_have_followed_a_copy():
    practice = Practice().run("1" * (2 * BETWEEN_COPIES - 1))
    assert practice.best.candidate is None
    assert practice.run("1").best.candidate.tally == Tally(10, 10)
    assert "nothing can be said about the edits yet" in str(Practice().best)
    assert "ACT: no episodes" in str(Practice().best)


def test_only_episodes_as_deployed_count_and_act_for_itself():
    practice = Practice().run("1" * 50, ActedAs.EXPLORING).run("1101", ActedAs.ACT)
    assert practice.best.candidate is None
    assert practice.best.act == Tally(3, 4)


def test_weights_that_are_still_acts_are_no_candidate():
    assert Practice(learnt=False).run("1" * 60).best.candidate is None


def test_before_the_actor_learns_no_copy_is_made():
    practice = Practice().run("1" * 20, learning=False)
    assert not practice.evidence.open
    practice.evidence.copy()  # when it begins: the weights of a checkpoint that goes on
    assert practice.evidence.open[0].before == Tally(20, 20)


@pytest.mark.parametrize(
    ("edited", "act", "is_better"),
    [
        ((39, 40), (11, 20), True),
        ((40, 40), (20, 20), False),
        ((36, 40), (18, 20), False),
        ((20, 40), (18, 20), False),
        ((24, 40), (6, 22), True),
        ((10, 10), (2, 3), False),
        ((10, 10), (0, 0), False),
        ((0, 0), (5, 5), False),
    ],
)
def test_edits_are_better_only_by_more_than_chance(edited, act, is_better):
    best = BestPolicy(candidate(*edited), Tally(*act))
    assert best.edits_are_better is is_better
    assert str(best).startswith("edits ACT, as that is better" if is_better else "acts as ACT")
    assert "level of 5 %" in str(best)


def test_the_more_windows_there_were_the_more_must_be_seen():
    close = candidate(24, 40), Tally(6, 22)
    assert BestPolicy(*close, looks=1).edits_are_better
    assert not BestPolicy(*close, looks=4).edits_are_better
    assert "for all 4 windows together" in str(BestPolicy(*close, looks=4))
    assert Practice().run("1" * (3 * WINDOW + 1)).best.looks == 4


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.9])
def test_a_policy_that_is_worse_than_act_is_rarely_called_better(rate):
    """By simulation of whole runs: ten points worse, 120 episodes as deployed, 30 of ACT."""
    generator = torch.Generator().manual_seed(0)
    wrong, agent = 0, Practice()
    for _ in range(100):
        practice = Practice.__new__(Practice)
        practice.agent, practice.progress, practice.learns = agent.agent, agent.progress, False
        practice.evidence = Evidence(WINDOW, agent.agent, agent.progress)
        for acted_as, success, count in ((ActedAs.ACT, rate, 30), (ActedAs.DEPLOYED, rate - 0.1, 120)):
            practice.run("".join("1" if u < success else "0" for u in torch.rand(count, generator=generator)), acted_as)
        wrong += practice.best.edits_are_better
    assert wrong / 100 <= LEVEL


def test_after_a_rollback_the_undone_episodes_do_not_count():
    practice = Practice().run("1" * 40 + "0" * 12)
    practice.evidence.forget_recent()
    practice.run("1" * 10)
    assert practice.evidence.open[0].before == Tally(5, 5)
    assert practice.best.candidate.tally.rate == 1.0
