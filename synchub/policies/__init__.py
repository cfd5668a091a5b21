"""What a merchant decides about its stock: buffers, allowances, limits, what agents are told."""
