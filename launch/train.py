"""One rank of a run, for any launcher or none: torchrun, mpirun, deepspeed, srun, python.

    torchrun --nproc-per-node 2 launch/train.py configs/heat.py [flags of sngd train]
    mpirun -n 2 python launch/train.py configs/heat.py

The environment tells which it is (sngd/launcher.py); `sngd train` does the same.
"""

import sys

from sngd.cli import main

if __name__ == "__main__":
    # deepspeed hands its processes --local_rank, which stands in the environment as well
    sys.exit(main(["train", *(flag for flag in sys.argv[1:] if not flag.startswith("--local_rank="))]))
