"""What tells about a running process: spans, the step of each thread, and the points where tests end it."""
