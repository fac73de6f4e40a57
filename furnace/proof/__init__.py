"""The program proves itself on the machine at hand: its promises are tried one after the other, by its own code.

May import: everything but sweep and __main__.
Begin with: prove.py (`PROMISES`, the table of what is tried).
"""
