"""Whose name is whose: platform items to the merchant's SKUs, platform locations to the merchant's own."""
