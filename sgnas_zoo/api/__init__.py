"""From what somebody asks for to a model. A request is parsed once and resolved once, whichever door it came through:

    request.py    what was asked, checked; nothing is loaded yet
    resolve.py    the space, generator, profile and supernet that answer it; here all is loaded (spaces, supernets)
    answer.py     architectures for its budgets
    create.py     ``create_model``, ``generate``, ``list_models``; timm's entry points call ``make`` (checks)

``searching.py`` has ``search_supernet`` and ``compare_strategies``.
"""
