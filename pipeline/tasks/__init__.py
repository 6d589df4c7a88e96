"""What several stages do alike: builders of their tasks, and readers of the artifacts that they share."""
