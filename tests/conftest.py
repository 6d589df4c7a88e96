"""One thread a test process: two of them share two cores, and the last bits of training depend on the threads."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded, here and in the processes that tests start
