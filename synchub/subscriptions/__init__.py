"""Changes pushed to the addresses of agents: webhooks after Standard Webhooks, granted for a time."""
