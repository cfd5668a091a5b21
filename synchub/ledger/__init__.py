"""What has happened to a merchant's stock, effect by effect, under one sequence."""
