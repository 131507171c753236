"""What a restart settles: interrupted attempts, orphans, waiting deletions."""
