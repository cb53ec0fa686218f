"""Objects for pods that hold no credentials: what they may put and get, and how that is signed."""
