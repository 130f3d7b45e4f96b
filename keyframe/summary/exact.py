"""The best independent set of a small graph of conflicts, by integer programming."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from keyframe.summary.candidates import Mask, Positions
from keyframe.types import FloatArray

# Above either, it is not tried: the linear programmes would take seconds.
MOST_FRAMES = 1000
_MOST_CLIQUES = 1000

# Nodes of branch and bound; a number, and no time, so that the result is the same on every machine.
_NODES = 200


def best_independent(graph: Callable[[], Mask], merits: FloatArray, k: int) -> Positions | None:
    """Up to k nodes without a conflict: the most there can be, and of these the greatest total merit.

    Two integer programmes by HiGHS. Conflicts become cliques of which one node is chosen at most: for frames that
    come in clusters and for near times these are few, and the programme's linear relaxation is (nearly) integral.

    Args:
        graph: makes the conflicts, symmetric, (n, n); called only where n allows it.
        merits: what each node is worth, finite, (n,).
        k: the most to choose, >= 1.

    Returns:
        Positions, rising; None where the graph is too large or too irregular, or no proof was found in time.
    """
    n = len(merits)
    if n > MOST_FRAMES:
        return None
    cliques = _cliques(graph())
    if cliques is None:
        return None
    rows = np.repeat(np.arange(len(cliques)), [len(clique) for clique in cliques])
    apart = csr_array((np.ones(len(rows)), (rows, np.concatenate(cliques))), shape=(len(cliques), n))
    most = _solve(np.ones(n), apart, 0, k)
    return None if most is None else _solve(merits, apart, len(most), len(most))


def _solve(values: FloatArray, apart: csr_array, least: int, most: int) -> Positions | None:
    """The set of least ... most nodes, one of each row of `apart`, with the greatest total."""
    n = len(values)
    result = milp(
        -values,
        integrality=np.ones(n, dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(apart, -np.inf, 1), LinearConstraint(np.ones((1, n)), least, most)],
        options={"node_limit": _NODES, "mip_rel_gap": 0},
    )
    return np.flatnonzero(result.x > 0.5) if result.status == 0 else None


def _cliques(graph: Mask) -> list[Positions] | None:
    """Cliques that hold every edge, each grown greedily from an edge that is not yet held; None if too many."""
    left = np.triu(graph)
    cliques: list[Positions] = []
    for node in range(len(graph)):
        while left[node].any():
            members, common = [node], graph[node]
            while common.any():
                # Edges not yet held come first.
                new = common & left[node]
                member = int((new if new.any() else common).argmax())
                members.append(member)
                common = common & graph[member]
            clique = np.sort(np.array(members, dtype=np.int64))
            left[np.ix_(clique, clique)] = False
            cliques.append(clique)
            if len(cliques) > _MOST_CLIQUES:
                return None
    return cliques
