"""One sheet over several processes: partition, halo exchange, and a mesh of replicas and parts."""

from colgraph.distributed.checkpoint import load_checkpoint, save_checkpoint
from colgraph.distributed.launch import make_mesh, session
from colgraph.distributed.local import LocalSheet, local_sheet
from colgraph.distributed.model import SheetParallel
from colgraph.distributed.partition import Partition, PartitionReport, halo_bytes, partition_sheet
from colgraph.distributed.vision import SheetParallelVision, distribute, replicate

__all__ = [
    "LocalSheet",
    "Partition",
    "PartitionReport",
    "SheetParallel",
    "SheetParallelVision",
    "distribute",
    "halo_bytes",
    "load_checkpoint",
    "local_sheet",
    "make_mesh",
    "partition_sheet",
    "replicate",
    "save_checkpoint",
    "session",
]
