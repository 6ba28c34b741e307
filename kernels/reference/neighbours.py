"""Twins of session_neighbours: every session is compared with every prefix. tests/kernels runs them on small cases."""

from collections.abc import Sequence

from kernels.session_neighbours import Kinship

Sessions = Sequence[Sequence[int]]


def next_item_votes(sessions: Sessions, prefix: Sequence[int], kinship: Kinship) -> dict[int, float]:
    """Let the sessions most like a prefix vote for their items.

    sessions  of item indexes, the oldest first; 0 is no item
    prefix    item indexes, the latest last; 0 is no item
    kinship   weights
    returns   score by item, of items with one
    """
    steps: dict[int, int] = {}
    for back, item in enumerate(reversed(prefix)):
        if item:
            steps.setdefault(item, back)
    n_holding = {item: sum(item in session for session in sessions) for item in steps}
    votes: dict[int, float] = {}
    for number, session in enumerate(sessions):
        shared = [item for item in steps if item in session]  # the latest in the prefix first
        likeness = sum(kinship.step_decay ** steps[item] / n_holding[item] ** kinship.rarity_power for item in shared)
        if shared:
            votes[number] = likeness * _vote(number, sessions, kinship)
    least = sorted(votes.values())[-kinship.n_neighbours :][:1]
    score: dict[int, float] = {}
    for number, vote in votes.items():
        if vote < least[0]:
            continue
        session = sessions[number]
        latest = min((item for item in steps if item in session), key=lambda item: steps[item])
        anchor = max(place for place, item in enumerate(session) if item == latest)
        for place, item in enumerate(session):
            worth = kinship.same if place == anchor else _closeness(place - anchor, kinship)
            if item and vote * worth > 0.0:
                score[item] = score.get(item, 0.0) + vote * worth
    return score


def pair_weights(sessions: Sessions, kinship: Kinship) -> dict[tuple[int, int], float]:
    """Add up, over all sessions that hold an item, what each would vote for.

    sessions  of item indexes, the oldest first; 0 is no item
    kinship   weights
    returns   weight by (item, other item)
    """
    weight: dict[tuple[int, int], float] = {}
    for item in {item for session in sessions for item in session if item}:
        n_holding = sum(item in session for session in sessions)
        for number, session in enumerate(sessions):
            if item not in session:
                continue
            vote = _vote(number, sessions, kinship) / n_holding**kinship.rarity_power
            anchor = max(place for place, other in enumerate(session) if other == item)
            for place, other in enumerate(session):
                worth = vote * _closeness(place - anchor, kinship) if other not in (0, item) else 0.0
                if worth > 0.0:
                    weight[item, other] = weight.get((item, other), 0.0) + worth
    return weight


def _vote(number: int, sessions: Sessions, kinship: Kinship) -> float:
    age = len(sessions) - 1 - number
    return float(0.5 ** (age / kinship.age_sessions) / len(sessions[number]) ** kinship.length_power)


def _closeness(distance: int, kinship: Kinship) -> float:
    if distance > 0:
        return float(kinship.distance_decay ** (distance - 1))
    return float(kinship.before) * float(kinship.distance_decay ** (-distance - 1))
