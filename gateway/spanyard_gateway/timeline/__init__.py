"""The joined story of a deployment: from its commit to the scores of what it answered."""
