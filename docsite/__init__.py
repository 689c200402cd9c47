"""What ``mkdocs build`` adds to the pages in ``docs/``: the reference, made from the code itself.

``hooks.py`` is named in ``mkdocs.yml``. Nothing here is needed by the program.
"""
