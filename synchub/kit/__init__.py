"""Small general tools that know nothing of stock."""
