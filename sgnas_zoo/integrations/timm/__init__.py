"""timm's way in: entry points, registered as soon as timm is imported."""
