"""`sgaps bench`: our figures as ratios to a floor measured in the same run."""
