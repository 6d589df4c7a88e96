"""One thread a test process: two processes share two cores, and training's last bits depend on the number of threads."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, here and in the processes that tests start
