"""What is neither requests nor graph: streaming of big regions, memory, places of files."""

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
    "BlockPlan",
    "ExportResult",
    "Overlap",
    "Progress",
    "available_memory",
    "export",
    "format_bytes",
    "overlap",
    "parse_bytes",
    "peak_memory",
    "plan_blocks",
    "process_blocks",
    "stream_blocks",
]
