"""What is said about ids that nobody offers, or more than one distribution."""

from __future__ import annotations

from collections.abc import Iterable

from lazyflow_core.plugins.known import DISTRIBUTION_OF_NAMESPACE
from lazyflow_core.words import near_miss

__all__ = ["conflict_text", "unknown_text"]


def unknown_text(id: str, installed: Iterable[str]) -> str:
    """Return what is said about an operator id that nobody offers: near misses, or what to install."""
    ids = sorted(installed)
    hint = near_miss(id, ids, most=3, otherwise="")
    if not hint and "." not in id:
        short = {i.partition(".")[2]: i for i in reversed(ids)}
        hint = near_miss(id, short, most=3, shown=short, otherwise="")
    namespace = id.partition(".")[0]
    if hint:
        return f"no operator {id!r}{hint}"
    offered = [i for i in ids if i.startswith(f"{namespace}.")]
    if offered:
        return f"no operator {id!r}; {namespace!r} offers {', '.join(offered)}."
    text = f"no operator {id!r}: no installed distribution provides the namespace {namespace!r}."
    if namespace in DISTRIBUTION_OF_NAMESPACE:
        text += f" Try: pip install {DISTRIBUTION_OF_NAMESPACE[namespace]}"
    return text


def conflict_text(kind: str, id: str, offers: list[tuple[str, str, str]]) -> str:
    """Return what is said where several distributions offer one id; offers are (name, version, target)."""
    count = {2: "two", 3: "three", 4: "four"}.get(len(offers), str(len(offers)))
    width = max(len(f"{name} {version}") for name, version, _ in offers)
    lines = [f"{kind} id {id!r} is provided by {count} distributions:"]
    lines += [f"    {f'{name} {version}':{width}}   {target}" for name, version, target in offers]
    others = "other" if len(offers) == 2 else "others"
    lines.append(f"  choose one:  LAZYFLOW_PREFER={id}={offers[-1][0]}   or uninstall the {others}.")
    return "\n".join(lines)
