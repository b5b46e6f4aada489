"""What is neither requests nor graph: big regions, places of files, memory and who keeps it."""

from lazyflow_core.utility.ledger import (
    BUDGET_VARIABLE,
    Account,
    Holding,
    MemoryLedger,
    MemoryReport,
    Reservation,
    memory_ledger,
    tick,
)
from lazyflow_core.utility.levels import is_above
from lazyflow_core.utility.memory import available_memory, format_bytes, parse_bytes, peak_memory
from lazyflow_core.utility.places import Overlap, overlap
from lazyflow_core.utility.streaming import (
    BlockPlan,
    ExportResult,
    Progress,
    export,
    plan_blocks,
    process_blocks,
    stream_blocks,
)

__all__ = [
    "BUDGET_VARIABLE",
    "Account",
    "BlockPlan",
    "ExportResult",
    "Holding",
    "MemoryLedger",
    "MemoryReport",
    "Reservation",
    "Overlap",
    "Progress",
    "available_memory",
    "export",
    "format_bytes",
    "is_above",
    "memory_ledger",
    "overlap",
    "parse_bytes",
    "peak_memory",
    "plan_blocks",
    "process_blocks",
    "stream_blocks",
    "tick",
]
