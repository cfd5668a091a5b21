"""How agents follow every change of stock.

One task per process reads the merchants' feed streams; readers that look through
the same lens form an audience and get the same bytes. Positions, cover ranges and
what ``asof`` promises are explained in ``docs/feed.md``.
"""
