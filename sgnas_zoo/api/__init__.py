"""From what somebody asks for to a model. A request is parsed once and resolved once, whichever door it came through.

``request.py`` holds what was asked, checked; nothing is loaded yet. ``resolve.py`` loads the space, the generator, the
profile and the supernet that answer it (``spaces.py`` and ``supernets.py`` choose them). ``answer.py`` makes
architectures of its budgets. ``create.py`` has ``create_model``, ``generate`` and ``list_models``; timm's entry points
call its ``make`` (``checks.py`` counts what keywords of timm's have added).
"""
