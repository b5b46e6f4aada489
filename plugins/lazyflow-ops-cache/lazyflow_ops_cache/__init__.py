"""Caches: what was computed is kept, as long as it is clean and there is memory for it.

`lazyflow_ops_cache.block_cache` holds the operator, `store` what a cache knows of its blocks, `memory` the
budget that all caches of the process share. ``DESIGN.md`` beside this file tells how they keep their
promises. This module imports nothing, so that asking what the plugin offers costs nothing.
"""
