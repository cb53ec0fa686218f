"""The commands that ask or tell a gateway: `spanyard logs`, `trace`, `deploy`, and so on.

One module per noun; each declares its commands (`COMMANDS`) and does them. What a command needs
beyond the standard library is imported when it runs: a command answers within a quarter of a second.
"""
