"""What a process needs to run: errors as one sentence, logs, command-line values, ranks, free memory."""
