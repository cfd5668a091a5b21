"""What an agent is told about a SKU."""
