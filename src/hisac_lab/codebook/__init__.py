"""The prefix tree over semantic IDs, votes and interest-agents."""
