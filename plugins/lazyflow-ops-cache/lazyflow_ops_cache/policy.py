"""How a cache treats what it keeps: what plugins are asked, and what they answer. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lazyflow_core.plugins import default, hookspec

if TYPE_CHECKING:
    from lazyflow_core import ArrayMeta

__all__ = ["CachePolicy", "cache_policy", "policy_of"]


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How a cache is to treat what it keeps; what a plugin answers to `cache_policy`.

    Parameters
    ----------
    keep
        Whether to keep anything at all; if not, requests are handed on as they are.
    compress
        Whether to keep blocks compressed, those that become smaller by it.
    priority
        Where memory is short, blocks of caches with a smaller number are dropped first.
    """

    keep: bool = True
    compress: bool = False
    priority: int = 0


@hookspec(firstresult=True)
def cache_policy(operator_id: str, meta: ArrayMeta, budget_bytes: int) -> CachePolicy | None:
    """How a cache is to treat what it keeps, or None; asked when the cache is set up, never per block.

    Called in a setup transaction: an implementation does not touch the graph.

    Parameters
    ----------
    operator_id
        The id of the operator that keeps things, ``"cache.blocks"`` for ours.
    meta
        What is known of the image.
    budget_bytes
        How much memory all that keep things may take together.
    """


def policy_of(operator_id: str, meta: ArrayMeta, budget_bytes: int) -> CachePolicy:
    """Ask the plugins `cache_policy`; without an opinion blocks are kept as they are.

    For operators of others, too: whatever keeps pixels may ask, by its own id.
    """
    policy = default().ask(
        cache_policy, CachePolicy, operator_id=operator_id, meta=meta, budget_bytes=budget_bytes
    )
    return policy or CachePolicy()
