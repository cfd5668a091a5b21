"""How every source's reports become one number per SKU."""
