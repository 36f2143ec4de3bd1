"""What a process needs to run: errors as one sentence, the log of a run, command-line values, ranks, free memory."""
