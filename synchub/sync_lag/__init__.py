"""Whether platforms' deliveries still arrive: judged from silence, signs of life, polls and what they say."""
