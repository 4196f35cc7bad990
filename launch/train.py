"""One rank of a run, for launchers: torchrun --nproc-per-node 2 launch/train.py configs/heat.py [flags]."""

import sys

from sngd.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
