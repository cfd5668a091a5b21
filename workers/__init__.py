"""What the worker process runs: wiring only, the work itself is in synchub."""
