"""The pipeline on real services under faults: killed, cut off, filled up, replayed. `python -m tests.faults`."""
